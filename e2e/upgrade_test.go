// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/lab"
)

// olderProgram builds this program as it was before the newest format of the store: of
// the same code, but it knows that one not.
func olderProgram(t *testing.T) string {
	t.Helper()
	source, err := filepath.Abs("../events/etcdlog/format.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	newest := fmt.Appendf(nil, "Format = %d\n", etcdlog.Format)
	if !bytes.Contains(text, newest) {
		t.Fatalf("%q is not in %s", newest, source)
	}
	older := bytes.Replace(text, newest, fmt.Appendf(nil, "Format = %d\n", etcdlog.OldestFormat), 1)
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {source: filepath.Join(dir, "format.go")}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"format.go": older, "overlay.json": overlay} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "ipamlog")
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", program, "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the older program: %v: %s", err, out)
	}
	return program
}

// presence is a host as `ipamlog hosts` tells of it.
type presence struct {
	Name  string
	Alive bool
}

// older starts the older program's daemon on a host. It returns what ends it.
func (s *site) older(t *testing.T, program string) (stop func()) {
	t.Helper()
	p := s.startOlder(t, program, new(bytes.Buffer))
	await(t, "the older daemon", func() (bool, error) {
		o := s.ipamlog(t, "hosts", "-o", "json")
		if o.status != 0 {
			return false, nil // there is no log yet
		}
		for _, h := range decode[[]presence](t, o.stdout) {
			if h.Name == s.Name() && h.Alive {
				return true, nil
			}
		}
		return false, nil
	})
	return func() {
		if err := p.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		<-p.Done()
	}
}

func (s *site) startOlder(t *testing.T, program string, stderr *bytes.Buffer) *lab.Process {
	t.Helper()
	cmd := s.serve(t)
	cmd.Path, cmd.Stderr = program, stderr
	p, err := s.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestUpgrade upgrades two hosts that share a pool one after the other, and takes one
// back. Nobody is stopped, and nothing is written that the older one could not read.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	program := olderProgram(t)
	l := lab.New(t)
	store := []string{"--cluster-store", strings.Join(l.StartCluster(1).Endpoints(), ",")}
	a, b := newSite(t, l, "a", store...), newSite(t, l, "b", store...).reconciles()
	stop := a.older(t, program)
	lab.StartEngines(t, a.Host, b.Host)
	shared := []string{"--subnet", "10.50.0.0/24", "--ipam-opt", "pool=shared", "--ipam-opt", "pick=lowest"}
	a.create(t, "n", shared...)
	a.run(t, "c1", "n")
	b.start(t)
	b.create(t, "n", shared...)
	b.run(t, "c2", "n")
	b.saidInLog(t, "ipamlog", `"hosts":["a"]`, 0)

	// An answer that went astray is only told of while the older one is there.
	lost := b.astray(t)
	b.saidInLog(t, "ipamlog", `"would_be"`, 0)
	if got := ends(t, b, lost); got != "held" {
		t.Errorf("%s: %s", lost, got)
	}
	if o := b.ipamlog(t, "verify"); o.status != 0 {
		t.Errorf("verify: %s%s", o.stdout, o.stderr)
	}

	stop()
	a.start(t)
	b.saidInLog(t, "ipamlog", "the store is in a newer format now", 0)
	await(t, "the answer that went astray to be reclaimed", func() (bool, error) { return ends(t, b, lost) == "reclaimed", nil })
	a.run(t, "c3", "n")
	sound(t, a, b)

	// And back again.
	a.stop(t)
	var said bytes.Buffer
	p := a.startOlder(t, program, &said)
	<-p.Done()
	if want := fmt.Sprintf("it is in format %d, this program reads up to %d: upgrade it", etcdlog.Format, etcdlog.OldestFormat); !strings.Contains(said.String(), want) {
		t.Errorf("the older daemon said %s, want %q", &said, want)
	}
	if o := a.ipamlog(t, "adopt", "--format", fmt.Sprint(etcdlog.OldestFormat), "--yes"); o.status != 0 {
		t.Fatalf("adopt: %s", o.stderr)
	}
	stop = a.older(t, program)
	defer stop()
	a.run(t, "c4", "n")
	b.run(t, "c5", "n")
	sound(t, a, b)
	if o := a.ipamlog(t, "adopt", "--format", fmt.Sprint(etcdlog.Format), "--yes"); o.status != 1 || !strings.Contains(o.stderr, "upgrade ipamlog on a first") {
		t.Errorf("raised while an older daemon runs: %+v", o)
	}
}

// astray has an address given out in a network of the host that no endpoint has.
func (s *site) astray(t *testing.T) netip.Addr {
	t.Helper()
	var id string
	for _, e := range s.events(t) {
		if e.Type == "grant.opened" && e.Host == s.Name() {
			id = fmt.Sprintf("ipamlog:local/%s/%s?host=%s&name=shared&subnet=10.50.0.0%%2F24", e.Stream, e.Grant, s.Name())
		}
	}
	answer, err := s.plugin(t).call(t.Context(), "RequestAddress", object{
		"PoolID": id, "Options": object{"com.docker.network.endpoint.macaddress": "02:42:00:00:00:99"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return netip.MustParsePrefix(answer.Address).Addr()
}
