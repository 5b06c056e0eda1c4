// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/lab"
)

// patience is how long anything may take on a busy machine.
const patience = 2 * time.Minute

// pluginSocket is where the daemon serves, seen from its host.
const pluginSocket = "/run/docker/plugins/ipamlog.sock"

// site is one host with a daemon on it.
type site struct {
	*lab.Host
	store  []string // the options that name the store; none for the embedded one
	daemon *lab.Daemon
}

// newSite adds a host to the lab, with neither engine nor daemon running. All
// that is unusual about its daemon is that several may be started on it, and that it
// heals nothing: tests speak to it beside an engine that knows nothing of that.
func newSite(t *testing.T, l *lab.Lab, name string, store ...string) *site {
	t.Helper()
	s := &site{Host: l.Host(name), store: store}
	s.daemon = s.Daemon(slices.Concat([]string{"--data-dir", s.dataDir(), "--listen", "off", "--reconcile", "off"}, store)...)
	return s
}

// reconciles lets the site's daemon heal what log and engine disagree on, faster than
// anybody would want it in earnest.
func (s *site) reconciles(options ...string) *site {
	s.daemon = s.Daemon(slices.Concat([]string{
		"--data-dir", s.dataDir(), "--listen", "off", "--reconcile-every", "200ms", "--reconcile-grace", "2s",
	}, s.store, options)...)
	return s
}

// startSite adds a host on which daemon and engine run.
func startSite(t *testing.T, l *lab.Lab, name string, store ...string) *site {
	t.Helper()
	s := newSite(t, l, name, store...)
	s.start(t)
	lab.StartEngines(t, s.Host)
	return s
}

// dataDir is short: it holds a unix socket.
func (s *site) dataDir() string { return filepath.Join(s.Dir(), "d") }

// logFile is in a place where the lab prints it should the test fail.
func (s *site) logFile(name string) string { return filepath.Join(filepath.Dir(s.Dir()), name+".log") }

// serve is the daemon with some more options, for those who start it themselves.
func (s *site) serve(t *testing.T, options ...string) *exec.Cmd {
	t.Helper()
	cmd, err := s.daemon.Command(options...)
	if err != nil {
		t.Fatal(err)
	}
	return cmd
}

// start starts the daemon and returns once it serves.
func (s *site) start(t *testing.T) {
	t.Helper()
	if err := s.daemon.Start(); err != nil {
		t.Fatal(err)
	}
}

// kill ends the daemon as kill -9 does.
func (s *site) kill(t *testing.T) {
	t.Helper()
	if err := s.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
}

// stop asks the daemon to end, and fails the test unless it does so properly.
func (s *site) stop(t *testing.T) {
	t.Helper()
	if err := s.daemon.Stop(); err != nil {
		t.Fatal(err)
	}
}

// outcome is how a run of the program ended.
type outcome struct {
	stdout, stderr string
	status         int
}

// ran tells of a process that has ended with this error.
func ran(stdout, stderr *bytes.Buffer, err error) (outcome, error) {
	o := outcome{stdout: stdout.String(), stderr: stderr.String()}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		o.status, err = exit.ExitCode(), nil
	}
	return o, err
}

// ipamlog runs one of the commands that read the log, on this host's store.
func (s *site) ipamlog(t *testing.T, args ...string) outcome {
	t.Helper()
	where := s.store
	if len(where) == 0 {
		where = []string{"--data-dir", s.dataDir()}
	}
	cmd, err := lab.Ipamlog(slices.Concat(args, where)...)
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	p, err := s.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	case <-time.After(patience):
		p.Kill()
		t.Fatalf("ipamlog %q has not ended after %v: %s", args, patience, stderr.String())
	}
	o, err := ran(&stdout, &stderr, p.Wait())
	if err != nil {
		t.Fatalf("ipamlog %q: %v", args, err)
	}
	return o
}

// ask runs a command that must succeed, and reads its JSON.
func ask[T any](t *testing.T, s *site, args ...string) T {
	t.Helper()
	o := s.ipamlog(t, append(args, "-o", "json")...)
	if o.status != 0 {
		t.Fatalf("ipamlog %q: status %d: %s", args, o.status, o.stderr)
	}
	return decode[T](t, o.stdout)
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// await asks done again and again until it says true, and fails the test when
// that takes too long.
func await(t *testing.T, what string, done func() (bool, error)) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if err != nil {
			t.Fatalf("wait for %s: %v", what, err)
		}
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited for %s for %v, in vain", what, patience)
		}
	}
}

// saidInLog waits until a log of the host holds a text beyond an offset.
func (s *site) saidInLog(t *testing.T, name, text string, from int64) {
	t.Helper()
	await(t, fmt.Sprintf("%q in the log of %s", text, name), func() (bool, error) {
		log, err := os.ReadFile(s.logFile(name))
		return int64(len(log)) > from && bytes.Contains(log[from:], []byte(text)), err
	})
}

// logSize is how long a log of the host is by now.
func (s *site) logSize(t *testing.T, name string) int64 {
	t.Helper()
	info, err := os.Stat(s.logFile(name))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
