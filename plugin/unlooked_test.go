// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/plugin"
)

// On a store that may lack what this host uses a pool is given, and an address refused at
// once, with why it is and what to do, until all was looked at.
func TestUnlooked(t *testing.T) {
	etcd := etcdtest.Start(t)
	seen := &observer{outcomes: map[string]int{}}
	host, err := actor.Join(t.Context(), actor.Options{
		Client: etcd.Client(), Log: etcdlog.New(etcd.Client(), etcdlog.DefaultPrefix), Identity: actor.Identity{Host: "h1", Machine: "machine", Version: "test"},
		Routes: func() ([]netip.Prefix, error) { return nil, nil }, Observer: seen,
		Looking: actor.Looking{Soon: func() {}, Left: actor.Unlooked{All: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = host.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	driver := plugin.NewDriver(nil)
	driver.Attach(host)
	b := &bed{tb: t, host: host, seen: seen}
	b.socket, b.http = serve(t, plugin.NewServer(driver, seen, zerolog.Nop()))

	poolID, ref := b.pool("10.1.0.0/24")
	asks := map[string]string{
		"a container": `{"PoolID":"` + poolID + `","Address":"","Options":{"com.docker.network.endpoint.macaddress":"02:42:0a:01:00:02"}}`,
		"a gateway":   `{"PoolID":"` + poolID + `","Address":"","Options":{"RequestAddressType":"com.docker.network.gateway"}}`,
	}
	const why, then = "It is not known yet which addresses this host's containers use (the store was restored or adopted", "): try again in a moment, and if that goes on, see that --engine is the Docker that asks, or do without looking with --engine off"
	refused := func(what string) {
		t.Helper()
		for who, ask := range asks {
			if status, answer := b.post("/IpamDriver.RequestAddress", ask); sentence(t, status, answer) != why+what+then {
				t.Errorf("%s: %s", who, answer)
			}
		}
	}
	refused("")
	host.LookFailed(errors.New("there is no Docker at unix:///none.sock"))
	refused(", and the last look at Docker failed: there is no Docker at unix:///none.sock")
	host.Looked(time.Now(), []events.ID{ref.Grant})
	refused(", and the last look at Docker failed: another engine than the one that asks answers there: name that one with --engine")
	host.Looked(time.Now(), nil)
	for who, ask := range asks {
		if status, answer := b.post("/IpamDriver.RequestAddress", ask); status != http.StatusOK || !strings.Contains(answer, `"Address":"10.1.0.`) {
			t.Errorf("%s, after the look: %d %s", who, status, answer)
		}
	}
}
