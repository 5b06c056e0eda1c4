// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"net/netip"
	"net/url"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
)

// ErrPoolID is returned for a PoolID that this driver never gave out.
var ErrPoolID = errors.New("not a PoolID of ipamlog")

const (
	poolIDScheme = "ipamlog:"
	maxPoolID    = 2048
)

// formatPoolID writes a grant as the PoolID that Docker keeps for us, with all
// that is needed to open it again should the store forget it:
//
//	ipamlog:local/<pool>/<grant>?host=h1&name=web&range=10.1.0.0/26&subnet=10.1.0.0/24
func formatPoolID(r actor.Ref) string {
	q := url.Values{"subnet": {r.Subnet.String()}}
	if r.Host != "" {
		q.Set("host", r.Host)
	}
	if r.Name != "" {
		q.Set("name", r.Name)
	}
	if r.Range.IsValid() {
		q.Set("range", r.Range.String())
	}
	return poolIDScheme + string(r.Space) + "/" + r.Pool.String() + "/" + r.Grant.String() + "?" + q.Encode()
}

// parsePoolID reads a PoolID. It returns [ErrPoolID], saying what is wrong.
func parsePoolID(s string) (actor.Ref, error) {
	bad := func(what string) (actor.Ref, error) {
		return actor.Ref{}, errors.Wrapf(ErrPoolID, "%s in %.80q", what, s)
	}
	body, ok := strings.CutPrefix(s, poolIDScheme)
	if !ok || len(s) > maxPoolID {
		return bad("no " + poolIDScheme)
	}
	path, query, _ := strings.Cut(body, "?")
	parts := strings.Split(path, "/")
	if len(parts) != 3 {
		return bad("no space, pool and grant")
	}
	ref := actor.Ref{Space: events.Space(parts[0])}
	if ref.Space != events.Local && ref.Space != events.Global {
		return bad("no address space")
	}
	var err error
	if ref.Pool, err = events.ParseID(parts[1]); err != nil || ref.Pool.IsZero() {
		return bad("no pool")
	}
	if ref.Grant, err = events.ParseID(parts[2]); err != nil || ref.Grant.IsZero() {
		return bad("no grant")
	}
	q, err := url.ParseQuery(query)
	if err != nil {
		return bad("no parameters")
	}
	ref.Host, ref.Name = q.Get("host"), q.Get("name")
	if ref.Name != "" && !events.ValidPoolName(ref.Name) {
		return bad("no pool's name")
	}
	ref.Subnet, err = netip.ParsePrefix(q.Get("subnet"))
	if err != nil || ref.Subnet != ref.Subnet.Masked() || ref.Subnet.Addr().Is4In6() {
		return bad("no subnet")
	}
	if text := q.Get("range"); text != "" {
		ref.Range, err = netip.ParsePrefix(text)
		if err != nil || ref.Range != ref.Range.Masked() || !ref.Subnet.Contains(ref.Range.Addr()) || ref.Range.Bits() < ref.Subnet.Bits() {
			return bad("no range within the subnet")
		}
	}
	return ref, nil
}
