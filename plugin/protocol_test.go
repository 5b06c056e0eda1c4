// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var poolIDOf = regexp.MustCompile(`"PoolID":"(ipamlog:[^"]*)"`)

// The transcripts say what real engines send, and what they are answered. A word
// in capitals behind a $ stands for a PoolID: the one it was first answered with.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/protocol/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b := newBed(t)
			known := map[string]string{} // words by PoolID
			word := regexp.MustCompile(`\$[A-Z]+`)
			var got string
			for n, line := range strings.Split(string(text), "\n") {
				switch {
				case strings.HasPrefix(line, "> "):
					call, body, _ := strings.Cut(line[2:], " ")
					for id, w := range known {
						body = strings.ReplaceAll(body, `"`+w+`"`, `"`+id+`"`)
					}
					status, answer := b.post(call, body)
					got = fmt.Sprint(status, " ", strings.ReplaceAll(answer, `\u0026`, "&"))
				case strings.HasPrefix(line, "< "):
					if m := poolIDOf.FindStringSubmatch(got); m != nil {
						if _, ok := known[m[1]]; !ok {
							known[m[1]] = word.FindString(line)
						}
						got = strings.ReplaceAll(got, m[1], known[m[1]])
					}
					if got != line[2:] {
						t.Errorf("%s:%d: got\n%s\nwant\n%s", file, n+1, got, line[2:])
					}
				case line != "" && !strings.HasPrefix(line, "#"):
					t.Fatalf("%s:%d: neither request nor answer", file, n+1)
				}
			}
		})
	}
}
