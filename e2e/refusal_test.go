// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/embedded"
	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/lab"
)

// ends runs a daemon on the host that is to end by itself.
func (s *site) ends(t *testing.T, cmd *exec.Cmd) outcome {
	t.Helper()
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
		t.Fatalf("the daemon goes on: %s", stdout.String())
	}
	o, err := ran(&stdout, &stderr, p.Wait())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// mustRefuse fails the test unless a daemon ends with status 1 and one sentence,
// beside its log, which has all these words.
func (s *site) mustRefuse(t *testing.T, cmd *exec.Cmd, words ...string) {
	t.Helper()
	o := s.ends(t, cmd)
	if o.status != 1 {
		t.Errorf("the exit status is %d, want 1", o.status)
	}
	var sentences []string
	for line := range strings.Lines(o.stderr) {
		if !json.Valid([]byte(line)) {
			sentences = append(sentences, strings.TrimSuffix(line, "\n"))
		}
	}
	if len(sentences) != 1 {
		t.Fatalf("standard error has %d sentences, want one:\n%s", len(sentences), o.stderr)
	}
	t.Log(sentences[0])
	for _, w := range append(words, "ipamlog: ", ": ") {
		if !strings.Contains(sentences[0], w) {
			t.Errorf("the sentence does not say %q: %s", w, sentences[0])
		}
	}
	if strings.Contains(o.stdout, "is serving") {
		t.Errorf("it said that it serves: %s", o.stdout)
	}
}

// TestSecondDaemon starts another daemon beside one that lives, in every way in
// which the two could take each other's place. No engine is needed for that.
func TestSecondDaemon(t *testing.T) {
	t.Parallel()
	a := newSite(t, lab.New(t), "a")
	a.start(t)
	elsewhere := filepath.Join(a.Dir(), "other")

	t.Run("on the same data directory", func(t *testing.T) {
		a.mustRefuse(t, a.serve(t, "--socket", "/run/other.sock"), "data directory", a.dataDir(), "in use")
	})
	t.Run("on the same socket", func(t *testing.T) {
		a.mustRefuse(t, a.serve(t, "--data-dir", elsewhere), "another process", pluginSocket, "--socket")
	})
	t.Run("on the same store", func(t *testing.T) {
		a.mustRefuse(t, a.serve(t, "--data-dir", elsewhere, "--socket", "/run/other.sock", "--cluster-store", embedded.Endpoint(a.dataDir())),
			"host a", "--host")
	})
	t.Run("the first goes on", func(t *testing.T) {
		if _, err := a.Exec("test", "-S", pluginSocket); err != nil {
			t.Error(err)
		}
		ask[[]pool](t, a, "pools")
		a.stop(t)
	})
}

// TestOtherMachine has two machines of one name.
func TestOtherMachine(t *testing.T) {
	t.Parallel()
	store := []string{"--cluster-store", etcdtest.Start(t).Endpoint()}
	first := newSite(t, lab.New(t), "a", store...)
	second := newSite(t, lab.New(t), "a", store...)
	first.start(t)
	for _, state := range []string{"lives", "is gone"} {
		t.Run("while the first "+state, func(t *testing.T) {
			second.mustRefuse(t, second.serve(t), "host a", "another machine", "--host", "adopt --host")
			if state == "lives" {
				first.stop(t)
			}
		})
	}
	first.start(t) // it may come back
	first.stop(t)
}

// TestOtherStore puts another store where the first was.
func TestOtherStore(t *testing.T) {
	t.Parallel()
	address := filepath.Join(t.TempDir(), "etcd")
	behind := func(t *testing.T, s *etcdtest.Server) {
		t.Helper()
		os.Remove(address) // is not there the first time
		if err := os.Symlink(strings.TrimPrefix(s.Endpoint(), "unix://"), address); err != nil {
			t.Fatal(err)
		}
	}
	right, wrong := etcdtest.Start(t), etcdtest.Start(t)
	a := newSite(t, lab.New(t), "a", "--cluster-store", "unix://"+address)
	behind(t, right)
	a.start(t)
	a.stop(t)

	refused := []string{"--cluster-store", "adopt --store"}
	behind(t, wrong)
	t.Run("an empty one", func(t *testing.T) { a.mustRefuse(t, a.serve(t), refused...) })
	t.Run("another's", func(t *testing.T) {
		b := newSite(t, lab.New(t), "b", a.store...)
		b.start(t)
		a.mustRefuse(t, a.serve(t), refused...)
		b.stop(t)
	})
	t.Run("the right one", func(t *testing.T) {
		behind(t, right)
		a.start(t)
		a.stop(t)
	})
}
