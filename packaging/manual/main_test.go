// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// program has two commands, and says what roff might take for its own.
const program = `#!/bin/sh
case "$*" in
"__complete help ") printf 'who\tTell who - or what\nversion\tTell which\n:4\n' ;;
help) printf 'About.\n\nUsage:\n  ipamlog [command]\n\nQuestions:\n  who         Tell who\n\nFlags:\n  -o, --output format   a \\ in it\n' ;;
"help who") printf ".Long\n'text\n\n  kept  as it is\n\nUsage:\n  ipamlog who A\n\nExamples:\n  ipamlog who 1\n\nGlobal Flags:\n      --user name   a user\n" ;;
"help version") printf 'Short.\n\nUsage:\n  ipamlog version\n' ;;
*) exit 1 ;;
esac
`

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "program")
	if err := os.WriteFile(path, []byte(program), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "86400")
	if err := write(path, filepath.Join(dir, "man")); err != nil {
		t.Fatal(err)
	}
	const files = `.SH FILES
.TP
.I /etc/ipamlog/config.yaml
The options, by their names.
.TP
.I /var/lib/ipamlog
The embedded etcd, the release spool, the remembered store and the index.
.SH SEE ALSO
`
	for name, want := range map[string]string{
		"ipamlog.1": `.TH IPAMLOG 1 "1970-01-02" "ipamlog"
.SH NAME
ipamlog \- Docker addresses, remembered for ever
.SH SYNOPSIS
.nf
ipamlog [command]
.fi
.SH DESCRIPTION
About.
.SH QUESTIONS
.TP
.B who
Tell who
.SH OPTIONS
.TP
.B \-o, \-\-output format
a \e in it
` + files + `.BR ipamlog\-who (1),
.BR ipamlog\-version (1)
`,
		"ipamlog-who.1": `.TH IPAMLOG-WHO 1 "1970-01-02" "ipamlog"
.SH NAME
ipamlog\-who \- Tell who \- or what
.SH SYNOPSIS
.nf
ipamlog who A
.fi
.SH DESCRIPTION
\&.Long
\&'text
.PP
.nf
kept  as it is
.fi
.SH OPTIONS OF ALL COMMANDS
.TP
.B \-\-user name
a user
.SH EXAMPLES
.nf
ipamlog who 1
.fi
` + files + `.BR ipamlog (1),
.BR ipamlog\-version (1)
`,
	} {
		got, err := os.ReadFile(filepath.Join(dir, "man", name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
