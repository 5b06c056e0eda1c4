// SPDX-License-Identifier: Apache-2.0

package hostnet_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/hostnet"
)

// machine is a machine with a network of its own: a network namespace in which
// the test's goroutine is from now on. Its uplink is eth0, with the other end of
// the cable, lan0, in the same namespace and without a word to say.
type machine struct {
	*hostnet.Machine
	root   string
	docker *docker
}

func newMachine(t *testing.T, commands ...string) *machine {
	t.Helper()
	enterNamespace(t)
	for _, c := range append([]string{
		"link set lo up",
		"link add eth0 address 02:00:00:00:00:05 type veth peer name lan0",
		"link set lan0 up",
		"link set eth0 up",
	}, commands...) {
		ip(t, c)
	}
	m := &machine{root: t.TempDir(), docker: &docker{}}
	m.write(t, "/run/docker/plugins/ipamlog.sock", "")
	var err error
	if m.Machine, err = hostnet.Open(m.root, m.docker); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// enterNamespace leaves the thread to the test, which takes it along when it
// ends.
func enterNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace: %v: run this test as root", err)
	}
	// Addresses are usable at once.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
}

// ip runs a command of iproute2 in the test's namespace.
func ip(t *testing.T, command string) string {
	t.Helper()
	out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v: %s", command, err, out)
	}
	return string(out)
}

func (m *machine) write(t *testing.T, path, text string) {
	t.Helper()
	path = filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) plan(t *testing.T, w hostnet.Wishes) *hostnet.Plan {
	t.Helper()
	facts, err := m.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, err := hostnet.NewPlan(facts, w)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// links are the bridge, if there is one, and the uplink.
func (m *machine) links(t *testing.T) (bridge, uplink hostnet.Link) {
	t.Helper()
	facts, err := m.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range facts.Links {
		switch l.Name {
		case "br0":
			bridge = l
		case "eth0":
			uplink = l
		}
	}
	return bridge, uplink
}

// wishes are those most tests have.
func wishes() hostnet.Wishes {
	return hostnet.Wishes{
		Address: netip.MustParsePrefix("10.50.0.5/24"), Router: netip.MustParseAddr("10.50.0.1"),
		Network: "mynet", Bridge: "br0", Driver: "ipamlog",
	}
}

func lines(p *hostnet.Plan) []string {
	var l []string
	for _, s := range p.Steps {
		l = append(l, s.String())
	}
	return l
}

func quiet(hostnet.Step, hostnet.Stage) {}

// docker is an engine as far as a plan asks it; package e2e has the real one.
type docker struct {
	networks []engine.Network
	refusal  error // to make one
}

func (d *docker) Networks(context.Context) ([]engine.Network, error) { return d.networks, nil }

func (d *docker) CreateNetwork(_ context.Context, n engine.Network) (string, error) {
	if d.refusal != nil {
		return "", d.refusal
	}
	n.ID = "id of " + n.Name
	d.networks = append(d.networks, n)
	return n.ID, nil
}

func (d *docker) RemoveNetwork(_ context.Context, id string) error {
	before := len(d.networks)
	d.networks = slices.DeleteFunc(d.networks, func(n engine.Network) bool { return n.ID == id })
	if len(d.networks) == before {
		return errors.Newf("there is no network %s", id)
	}
	return nil
}

// state is all that create-network may change.
type state struct {
	Addresses, Routes4, Routes6 []string
	Files                       map[string]string
	Networks                    []engine.Network
}

func (m *machine) state(t *testing.T) state {
	t.Helper()
	s := state{
		Addresses: elements(t, ip(t, "-j -d addr")),
		Routes4:   elements(t, ip(t, "-j -4 route show table all")),
		Routes6:   elements(t, ip(t, "-j -6 route show table all")),
		Files:     map[string]string{},
		Networks:  slices.Clone(m.docker.networks),
	}
	err := filepath.WalkDir(m.root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		s.Files[strings.TrimPrefix(path, m.root)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// elements are those of a JSON array, each as text and all in order, without
// what passes by itself.
func elements(t *testing.T, text string) []string {
	t.Helper()
	var all []map[string]any
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, e := range all {
		withoutTimes(e)
		b, err := json.MarshalIndent(e, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	slices.Sort(texts)
	return texts
}

func withoutTimes(of any) {
	switch of := of.(type) {
	case []any:
		for _, e := range of {
			withoutTimes(e)
		}
	case map[string]any:
		if life, ok := of["valid_life_time"].(float64); ok && life < 1<<32-1 {
			of["valid_life_time"], of["preferred_life_time"] = "some", "some"
		}
		maps.DeleteFunc(of, func(key string, _ any) bool { return strings.HasSuffix(key, "_timer") })
		for _, e := range of {
			withoutTimes(e)
		}
	}
}

// settled is the state once the kernel has nothing to do any more.
func (m *machine) settled(t *testing.T) state {
	t.Helper()
	await(t, func() bool {
		return !strings.Contains(ip(t, "-6 addr show"), "tentative") && !strings.Contains(ip(t, "link show up"), "NO-CARRIER")
	})
	return m.state(t)
}

// same fails the test unless the machine comes to be as it was.
func (m *machine) same(t *testing.T, want state) {
	t.Helper()
	got := m.settled(t)
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("another machine than it was:\n%s", diff)
	}
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
		<-tick.C
	}
}
