// SPDX-License-Identifier: Apache-2.0

package engine_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/lab"
)

func open(t *testing.T, address string) *engine.Engine {
	t.Helper()
	e, err := engine.Open(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// follow listens to an engine's events, and returns what waits for the next one.
func follow(t *testing.T, e *engine.Engine) func() engine.Event {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	connected, seen, ended := make(chan struct{}), make(chan engine.Event, 64), make(chan struct{})
	go func() {
		defer close(ended)
		if err := e.Events(ctx, time.Time{}, func() { close(connected) }, func(e engine.Event) { seen <- e }); err == nil {
			t.Error("the events ended without a reason")
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	<-connected
	return func() engine.Event {
		select {
		case e := <-seen:
			return e
		case <-time.After(time.Minute):
			t.Fatal("no event came")
			return engine.Event{}
		}
	}
}

// A real engine, and what it knows after each request.
func TestEngine(t *testing.T) {
	h := lab.New(t).Host("a")
	lab.StartEngines(t, h)
	e, ctx := open(t, "unix://"+h.Socket()), t.Context()

	if v, err := e.Version(ctx); err != nil || v == "" {
		t.Errorf("version %q, %v", v, err)
	}
	want := engine.Network{
		Name: "n1", Driver: "bridge", Options: map[string]string{"com.docker.network.driver.mtu": "1400"},
		IPAM: engine.IPAM{Driver: "default", Options: map[string]string{}, Pools: []engine.Pool{{
			Subnet: netip.MustParsePrefix("10.60.0.0/24"), Range: netip.MustParsePrefix("10.60.0.128/25"),
			Gateway: netip.MustParseAddr("10.60.0.5"), Auxiliary: map[string]netip.Addr{"DefaultGatewayIPv4": netip.MustParseAddr("10.60.0.1")},
		}}},
	}
	before := time.Now()
	id, err := e.CreateNetwork(ctx, want)
	if err != nil {
		t.Fatal(err)
	}
	want.ID = id
	for _, name := range []string{id, "n1"} {
		got, err := e.Network(ctx, name)
		if got.Created.Before(before) || got.Created.After(time.Now()) {
			t.Errorf("network %s was created at %v, and not since %v", name, got.Created, before)
		}
		want.Created = got.Created
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); err != nil || diff != "" {
			t.Errorf("network %s: %v\n%s", name, err, diff)
		}
	}
	if _, err := e.CreateNetwork(ctx, want); !errors.Is(err, engine.ErrNetworkExists) {
		t.Errorf("made twice: %v", err)
	}

	seen := follow(t, e)
	h.MustDocker(t, "run", "-d", "--name", "c1", "--network", "n1", "--label", "team=x", lab.Image)
	c, err := h.Container("c1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.Network(ctx, "n1")
	if err != nil || len(got.Endpoints) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	p := got.Endpoints[0]
	if p.Container != c.ID || p.Name != "c1" || p.ID != c.NetworkSettings.Networks["n1"].EndpointID ||
		p.MAC.String() != c.NetworkSettings.Networks["n1"].MacAddress || p.Addresses[0].Addr() != c.NetworkSettings.Networks["n1"].IPAddress {
		t.Errorf("endpoint %+v, and the container is %+v", p, c)
	}
	want1 := engine.Container{ID: c.ID, Name: "c1", Image: lab.Image, Labels: map[string]string{"team": "x"}}
	for how, ask := range map[string]func() (engine.Container, error){
		"inspected": func() (engine.Container, error) { return e.Container(ctx, "c1") },
		"listed": func() (engine.Container, error) {
			list, err := e.Containers(ctx, []string{c.ID, strings.Repeat("0", 64)})
			if err != nil || len(list) != 1 {
				return engine.Container{}, errors.CombineErrors(err, errors.Newf("%d containers", len(list)))
			}
			return list[0], nil
		},
	} {
		got, err := ask()
		if !strings.HasPrefix(got.ImageID, "sha256:") {
			t.Errorf("%s: image %q", how, got.ImageID)
		}
		got.ImageID = ""
		if diff := cmp.Diff(want1, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", how, err, diff)
		}
	}
	if list, err := e.Containers(ctx, nil); err != nil || len(list) != 0 {
		t.Errorf("of no container %+v, %v", list, err)
	}
	if _, err := e.Container(ctx, "c9"); !errors.Is(err, engine.ErrNoContainer) {
		t.Errorf("of a container that is not there: %v", err)
	}
	h.MustDocker(t, "rename", "c1", "c2")
	for _, want := range []engine.Event{
		{Type: "container", Action: "create", Container: c.ID, Name: "c1", Image: lab.Image, Labels: map[string]string{"team": "x"}},
		{Type: "network", Action: "connect", Container: c.ID, Network: id},
		{Type: "container", Action: "start", Container: c.ID, Name: "c1", Image: lab.Image, Labels: map[string]string{"team": "x"}},
		{Type: "container", Action: "rename", Container: c.ID, Name: "c2", OldName: "c1", Image: lab.Image, Labels: map[string]string{"team": "x"}},
	} {
		got := seen()
		if got.Time.IsZero() {
			t.Error("an event has no time")
		}
		got.Time = time.Time{}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("event (-want +got):\n%s", diff)
		}
	}
	h.MustDocker(t, "rename", "c2", "c1")
	if err := e.RemoveNetwork(ctx, id); err == nil || errors.Is(err, engine.ErrNoNetwork) {
		t.Errorf("removed while a container is on it: %v", err)
	}
	h.MustDocker(t, "rm", "-f", "c1")

	// What other networks of this engine may look like is read too.
	h.MustDocker(t, "network", "create", "auto")
	h.MustDocker(t, "network", "create", "--ipv6", "--subnet", "fd00:61::/64", "six")
	list, err := e.Networks(ctx)
	if err != nil || len(list) != 5 {
		t.Errorf("%d networks, %v", len(list), err)
	}
	for range 2 {
		if err := e.RemoveNetwork(ctx, id); err != nil {
			t.Error(err)
		}
	}
	if _, err := e.Network(ctx, id); !errors.Is(err, engine.ErrNoNetwork) {
		t.Errorf("after its removal: %v", err)
	}
	if err := h.StopEngine(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Networks(ctx); !errors.Is(err, engine.ErrUnreachable) {
		t.Errorf("of an engine that is away: %v", err)
	}
}

// What engines have been seen to answer, beside what TestEngine's does.
func TestEngine_answers(t *testing.T) {
	const auto6 = `{"Name":"n","Id":"1","Driver":"bridge","IPAM":{"Driver":"ipamlog","Config":[
		{"Subnet":"10.0.0.0/24","Gateway":"10.0.0.1"},{"Subnet":"fd00::/64","Gateway":"fd00::1/64"}]},
		"Containers":{"ep-7":{"Name":"lost","EndpointID":"7","MacAddress":"","IPv4Address":"10.0.0.2/24","IPv6Address":""}}}`
	var version string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		version, _, _ = strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
			w.Header().Set("Api-Version", "1.41")
		case strings.HasSuffix(r.URL.Path, "/networks"):
			fmt.Fprint(w, "["+auto6+"]")
		case strings.HasSuffix(r.URL.Path, "/networks/n"):
			fmt.Fprint(w, auto6)
		default:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, `{"message":"remote: the pool is dry"}`)
		}
	}))
	defer server.Close()
	e := open(t, server.URL)
	for _, ask := range []func() (engine.Network, error){
		func() (engine.Network, error) { return e.Network(t.Context(), "n") },
		func() (engine.Network, error) {
			list, err := e.Networks(t.Context())
			if err != nil {
				return engine.Network{}, err
			}
			return list[0], nil
		},
	} {
		n, err := ask()
		if err != nil {
			t.Fatal(err)
		}
		if got := n.IPAM.Pools[1].Gateway; got != netip.MustParseAddr("fd00::1") {
			t.Errorf("gateway %v", got)
		}
		if len(n.Endpoints) == 1 && n.Endpoints[0].Container != "" {
			t.Errorf("a lost container is %q", n.Endpoints[0].Container)
		}
	}
	if version != "v1.41" {
		t.Errorf("asked in version %s", version)
	}
	if _, err := e.CreateNetwork(t.Context(), engine.Network{Name: "m"}); err == nil || err.Error() != "create Docker network m: Docker says: the pool is dry" {
		t.Errorf("refused with %v", err)
	}
	server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Networks(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("asked no longer: %v", err)
	}
}

// An engine that dies while it is asked may have done what it was asked for.
func TestEngine_dying(t *testing.T) {
	for name, die := range map[string]func(http.ResponseWriter){
		"before the answer": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"amid the answer": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, `{"Id":`)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case strings.HasSuffix(r.URL.Path, "/_ping"):
					w.Header().Set("Api-Version", "1.41")
				case strings.HasSuffix(r.URL.Path, "/networks"):
					fmt.Fprint(w, "[]")
				default:
					die(w)
				}
			}))
			defer server.Close()
			e := open(t, server.URL)
			if _, err := e.CreateNetwork(t.Context(), engine.Network{Name: "m"}); !errors.Is(err, engine.ErrUncertain) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestOpen_refused(t *testing.T) {
	for _, address := range []string{"", "nonsense", "docker.sock"} {
		if e, err := engine.Open(address); err == nil {
			t.Errorf("%q was opened: %v", address, e.Close())
		}
	}
}
