// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/embedded"
	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/lab"
)

// TestDry fills a pool to the last address, and looks at the log through
// others' eyes at the end.
func TestDry(t *testing.T) {
	t.Parallel()
	a := startSite(t, lab.New(t), "a")
	a.create(t, "small", "--subnet", "10.50.0.0/29", "--ipam-opt", "pool=small")
	for i := range 5 { // eight less network, broadcast and gateway
		a.run(t, fmt.Sprintf("c%d", i), "small")
	}
	agree(t, a)
	if n := a.exhausted(t); n != 0 {
		t.Errorf("the pool was just filled, and %d times it is told to be exhausted", n)
	}

	const advice = "remove containers or networks, or give the pool more with a larger subnet or `ipamlog ip-range`"
	for i := range 2 {
		name := fmt.Sprintf("many%d", i)
		a.refused(t, []string{"o available addresses", "10.50.0.0/29", advice}, "run", "-d", "--name", name, "--network", "small", lab.Image)
		a.MustDocker(t, "rm", name)
	}
	agree(t, a)
	if n := a.exhausted(t); n != 1 {
		t.Errorf("the pool ran dry once, and is told to be exhausted %d times", n)
	}

	freed, _ := a.addresses(t, "c3", "small")
	a.MustDocker(t, "stop", "c3")
	a.run(t, "next", "small")
	if got, _ := a.addresses(t, "next", "small"); got != freed {
		t.Errorf("the one free address is %v, and next has %v", freed, got)
	}
	a.refused(t, []string{advice}, "start", "c3")
	agree(t, a)
	if n := a.exhausted(t); n != 2 {
		t.Errorf("the pool ran dry twice, and is told to be exhausted %d times", n)
	}

	t.Run("the log is readable without us", a.readable)
}

// exhausted counts how often the log says that a pool ran dry.
func (s *site) exhausted(t *testing.T) int {
	t.Helper()
	o := s.ipamlog(t, "tail", "-o", "jsonl")
	if o.status != 0 {
		t.Fatalf("ipamlog tail: status %d: %s", o.status, o.stderr)
	}
	n := 0
	for line := range strings.Lines(o.stdout) {
		event := decode[struct{ Type string }](t, line)
		if event.Type == "pool.exhausted" {
			n++
		}
	}
	return n
}

// readable reads the log with nothing but a client of etcd, as etcdctl get
// --prefix does in an emergency.
func (s *site) readable(t *testing.T) {
	t.Helper()
	client := etcdtest.Dial(t, embedded.Endpoint(s.dataDir()))
	answer, err := client.Get(t.Context(), "/ipamlog/v1/log/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{} // types of events; addresses
	for _, kv := range answer.Kvs {
		if strings.ContainsFunc(string(kv.Value), func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%s is not one line of plain text: %q", kv.Key, kv.Value)
		}
		commit := decode[struct {
			Host   string
			Time   string
			Events []struct{ Type, Address string }
		}](t, string(kv.Value))
		if commit.Host != s.Name() || commit.Time == "" || len(commit.Events) == 0 {
			t.Errorf("%s does not say who wrote what and when: %s", kv.Key, kv.Value)
		}
		for _, e := range commit.Events {
			told[e.Type], told[e.Address] = true, true
			if strings.HasPrefix(e.Type, "address.") && e.Address == "" {
				t.Errorf("%s tells %q of no address: %s", kv.Key, e.Type, kv.Value)
			}
		}
	}
	for _, word := range []string{
		"host.joined", "pool.created", "grant.opened", "address.allocated", "address.released", "pool.exhausted",
		"10.50.0.1", "10.50.0.2", "10.50.0.3", "10.50.0.4", "10.50.0.5", "10.50.0.6",
	} {
		if !told[word] {
			t.Errorf("nothing in the log tells of %s", word)
		}
	}
}
