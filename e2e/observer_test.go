// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/lab"
)

// observer watches an engine by nothing but `docker inspect`, and keeps who had
// which address when: the truth that ipamlog's answers are compared with. It
// knows nothing of ipamlog.
type observer struct {
	host   *lab.Host
	client *http.Client
	stop   context.CancelFunc
	ended  sync.WaitGroup

	mu   sync.Mutex
	runs map[string]*stay // by endpoint
}

// stay is one endpoint: a container on a network, from its start or connection to
// its stop.
type stay struct {
	container, image, imageID string
	network                   string // by its name
	addresses                 []netip.Addr
	sights                    []sight // oldest first
	started                   time.Time
}

// lasted says whether there was time to look: on a machine as busy as this, what was
// connected for a blink may be gone again before anybody could.
func (s *stay) lasted() bool {
	return s.sights[len(s.sights)-1].from.Sub(s.sights[0].to) > time.Second
}

// String tells who it was, and when.
func (s *stay) String() string {
	names := []string{}
	for _, x := range s.sights {
		if n := len(names); n == 0 || names[n-1] != x.name {
			names = append(names, x.name)
		}
	}
	return fmt.Sprintf("%v on %s, held by %.12s (%s), seen %d times from %v to %v", s.addresses, s.network, s.container,
		strings.Join(names, ", then "), len(s.sights), s.sights[0].from.UTC(), s.sights[len(s.sights)-1].to.UTC())
}

// sight is one inspection: the container had that name, and the addresses, at some
// moment between the two times.
type sight struct {
	name     string
	from, to time.Time
}

// certainty is a time for which the truth is known.
type certainty struct {
	*stay
	name     string // empty: it may have had either of two
	from, to time.Time
}

func observe(t *testing.T, h *lab.Host) *observer {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	o := &observer{host: h, stop: stop, runs: map[string]*stay{}, client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", h.Socket())
		},
	}}}
	o.ended.Go(func() {
		for ctx.Err() == nil {
			o.look(ctx)
			select { // the engine has other things to do, too
			case <-ctx.Done():
			case <-time.After(15 * time.Millisecond):
			}
		}
		o.client.CloseIdleConnections()
	})
	t.Cleanup(o.end)
	return o
}

func (o *observer) end() {
	o.stop()
	o.ended.Wait()
}

// look inspects every container that runs. One that is being started or stopped
// makes its inspection wait, and no other.
func (o *observer) look(ctx context.Context) {
	running, ok := get[[]struct{ ID string }](ctx, o, "/containers/json")
	if !ok {
		return // the engine is away
	}
	var inspecting sync.WaitGroup
	for _, c := range running {
		inspecting.Go(func() {
			from := time.Now()
			c, ok := get[lab.Container](ctx, o, "/containers/"+c.ID+"/json")
			to := time.Now()
			if ok && c.State.Running {
				o.saw(c, from, to)
			}
		})
	}
	inspecting.Wait()
}

func get[T any](ctx context.Context, o *observer, path string) (v T, ok bool) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine"+path, nil)
	if err != nil {
		return v, false
	}
	r, err := o.client.Do(request)
	if err != nil {
		return v, false
	}
	defer r.Body.Close()
	return v, r.StatusCode == http.StatusOK && json.NewDecoder(r.Body).Decode(&v) == nil
}

func (o *observer) saw(c lab.Container, from, to time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for network, e := range c.NetworkSettings.Networks {
		if e.EndpointID == "" || !e.IPAddress.IsValid() {
			continue
		}
		s := o.runs[e.EndpointID]
		if s == nil {
			s = &stay{
				container: c.ID, image: c.Config.Image, imageID: c.Image, network: network, started: c.State.StartedAt,
			}
			for _, a := range []netip.Addr{e.IPAddress, e.GlobalIPv6Address} {
				if a.IsValid() {
					s.addresses = append(s.addresses, a)
				}
			}
			o.runs[e.EndpointID] = s
		}
		s.sights = append(s.sights, sight{strings.TrimPrefix(c.Name, "/"), from, to})
	}
}

// unseen is how long nobody may look and still be sure of a name: a container that gets
// another one, and its own again, takes longer.
const unseen = 150 * time.Millisecond

// certainties is all that was seen beyond doubt: between two sights of one endpoint
// the container had its addresses, and if both show one name, soon after another, that name. Where it
// had them since it was started, since says so.
func (o *observer) certainties(since func(*stay) bool) []certainty {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []certainty
	for _, s := range o.runs {
		first := s.sights[0]
		if since(s) && s.started.Before(first.from) {
			all = append(all, certainty{s, "", s.started, first.from})
		}
		for i, next := range s.sights[1:] {
			last := s.sights[i]
			c := certainty{s, next.name, last.to, next.from}
			if last.name != next.name || c.to.Sub(c.from) > unseen {
				c.name = ""
			}
			if c.from.Before(c.to) {
				all = append(all, c)
			}
		}
	}
	return all
}
