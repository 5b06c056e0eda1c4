// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
)

// The wall clock is the machine's: a namespace has none of its own. So the daemons
// are built with two lines of the log's clock replaced (go build -overlay; nothing of
// it is in the source): it reads the wall clock, adds what stands in a file of its
// host's, and has no kernel that calls that synchronised.
const (
	clockSource = "events/etcdlog/clock.go"
	// clockFile is the file on a host: nanoseconds, eight bytes, little endian.
	clockFile = "/run/clock-offset"
)

var clockLines = map[string]string{
	"wall:         time.Now,":           "wall:         shiftedWall(),",
	"synchronised: kernelSynchronised,": "synchronised: func() bool { return false },",
}

const shiftedWall = `// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"encoding/binary"
	"os"
	"time"
)

func shiftedWall() func() time.Time {
	f, err := os.Open("` + clockFile + `")
	if err != nil {
		panic(err)
	}
	return func() time.Time {
		var b [8]byte
		if _, err := f.ReadAt(b[:], 0); err != nil {
			panic(err)
		}
		return time.Now().Add(time.Duration(binary.LittleEndian.Uint64(b[:])))
	}
}

var _ = kernelSynchronised
`

// bendClocks makes every program that the lab builds from now on one whose clock can
// be shifted. dir is for its files.
func bendClocks(dir string) error {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return errors.Wrap(err, "find the source: run this in it")
	}
	source := filepath.Join(strings.TrimSpace(string(root)), clockSource)
	text, err := os.ReadFile(source)
	if err != nil {
		return errors.Wrap(err, "read the log's clock")
	}
	bent := string(text)
	for line, instead := range clockLines {
		if strings.Count(bent, line) != 1 {
			return errors.Newf("%s has no line %q any more: mend clockLines", clockSource, line)
		}
		bent = strings.Replace(bent, line, instead, 1)
	}
	replace := map[string]string{}
	for name, content := range map[string]string{source: bent, filepath.Join(filepath.Dir(source), "clock_shifted.go"): shiftedWall} {
		file := filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			return errors.Wrap(err, "write the bent clock")
		}
		replace[name] = file
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return errors.Wrap(err, "write the overlay")
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return errors.Wrap(err, "write the overlay")
	}
	// What the user has set for the go command stays.
	flags, err := exec.Command("go", "env", "GOFLAGS").Output()
	if err != nil {
		return errors.Wrap(err, "ask for GOFLAGS")
	}
	return errors.Wrap(os.Setenv("GOFLAGS", strings.TrimSpace(string(flags))+" -overlay="+file), "set GOFLAGS")
}

// shift puts a station's clock so far from the machine's. The file is never empty:
// the daemon reads it at any moment.
func (s *station) shift(by time.Duration) error {
	name := filepath.Join(filepath.Dir(filepath.Dir(s.host.PluginDir())), filepath.Base(clockFile))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return errors.Wrap(err, "shift a clock")
	}
	_, err = f.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(by)), 0)
	return errors.Wrap(errors.CombineErrors(err, f.Close()), "shift a clock")
}
