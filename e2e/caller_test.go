// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
)

// plugin speaks Docker's protocol to the daemon of a host, much faster than an
// engine does: what is killed while it talks is mostly killed within a request.
type plugin struct{ http *http.Client }

func (s *site) plugin(t *testing.T) plugin {
	t.Helper()
	socket := filepath.Join(s.PluginDir(), filepath.Base(pluginSocket))
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return plugin{&http.Client{Transport: transport}}
}

// errRefused is an answer that says no, as opposed to none.
var errRefused = errors.New("refused")

type object map[string]any

func (p plugin) call(ctx context.Context, name string, request object) (answer struct{ PoolID, Address, Error string }, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return answer, errors.Wrap(err, "write a request")
	}
	// Without a way to get the body again, net/http repeats nothing by itself.
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/IpamDriver."+name, struct{ *bytes.Reader }{bytes.NewReader(body)})
	if err != nil {
		return answer, errors.Wrap(err, "make a request")
	}
	response, err := p.http.Do(post)
	if err != nil {
		return answer, errors.Wrap(err, name)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return answer, errors.Wrap(err, "read an answer")
	}
	if answer.Error != "" {
		return answer, errors.Wrap(errRefused, answer.Error)
	}
	return answer, nil
}

// caller asks for addresses and gives them back, and remembers what it was told.
type caller struct {
	plugin plugin
	poolID string
	held   map[netip.Addr]string // MAC by address: answered, and not given back
	back   map[string]bool       // MACs whose release was answered
	cut    int                   // requests that were heard and not answered
}

// callOn makes the calls of one caller until ctx ends.
func (c *crowd) callOn(ctx context.Context, t *testing.T, who *caller, random *rand.Rand) {
	t.Helper()
	const most = 16
	for ctx.Err() == nil {
		c.looking.RLock()
		var err error
		if random.IntN(most) >= len(who.held) {
			err = who.request(ctx, random)
		} else {
			err = who.release(ctx)
		}
		c.looking.RUnlock()
		switch {
		case err == nil:
		case errors.Is(err, errRefused): // there is always room, and a daemon that starts is waited for
			t.Error(err)
		case unheard(err):
			select { // the daemon is down
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		default:
			who.cut++
		}
	}
}

// unheard says whether there was nobody to hear a request.
func unheard(err error) bool {
	var network *net.OpError
	return errors.As(err, &network) && network.Op == "dial"
}

func (w *caller) request(ctx context.Context, random *rand.Rand) error {
	m := net.HardwareAddr{2, 0, 0, 0, 0, 0}
	for i := range m[1:] {
		m[1+i] = byte(random.Uint32())
	}
	mac := m.String()
	answer, err := w.plugin.call(ctx, "RequestAddress", object{
		"PoolID": w.poolID, "Options": object{"com.docker.network.endpoint.macaddress": mac},
	})
	if err != nil {
		return err
	}
	address, err := netip.ParsePrefix(answer.Address)
	if err != nil {
		return errors.Wrap(err, "read the address")
	}
	w.held[address.Addr()] = mac
	return nil
}

func (w *caller) release(ctx context.Context) error {
	address := slices.MinFunc(slices.Collect(maps.Keys(w.held)), netip.Addr.Compare)
	mac := w.held[address]
	_, err := w.plugin.call(ctx, "ReleaseAddress", object{"PoolID": w.poolID, "Address": address.String()})
	if !unheard(err) {
		delete(w.held, address) // or perhaps not: then nobody relies on it
	}
	if err == nil {
		w.back[mac] = true
	}
	return err
}

// check fails the test unless the log holds what callers were told they have,
// and nothing of what they were told they have given back.
func check(t *testing.T, callers []*caller, held []fact) {
	t.Helper()
	macs := map[netip.Addr]string{}
	for _, f := range held {
		macs[f.Address] = f.MAC
	}
	users := map[netip.Addr]string{}
	for _, c := range callers {
		for address, mac := range c.held {
			if other, twice := users[address]; twice {
				t.Errorf("two were told that they have %v: %s and %s", address, other, mac)
			}
			users[address] = mac
			if macs[address] != mac {
				t.Errorf("%s was told that it has %v, which is held by %q", mac, address, macs[address])
			}
		}
		for address, mac := range macs {
			if c.back[mac] {
				t.Errorf("%s was told that it has given %v back, and holds it", mac, address)
			}
		}
	}
}
