// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"go4.org/netipx"
)

// kvipamdriver is libnetwork's allocator with a name of its own in the keys, so
// that it may share a store with Docker. It has a key for each address space, with
// all subnets, and one for each subnet, with its bitmap:
//
//	…/mysuperawesomeipam/config/SPACE
//	…/mysuperawesomeipam/data/SPACE/ADDRESS/LENGTH
const kvRoot = "ipam/mysuperawesomeipam/"

// mostHeld is how many addresses of a dump may be held. Every one becomes an event,
// and a bitmap of a few bytes can say that 16 million are.
const mostHeld = 1 << 20

// noOwner is what is known of an address that a bitmap has as set.
const noOwner = "kvipamdriver does not say whose, it may be a bridge's own"

// kvPool is one subnet of a space, or a range of a subnet.
type kvPool struct {
	space  string
	subnet netip.Prefix
	sub    netip.Prefix // the range; invalid for the subnet itself
	count  int          // how many networks refer to it, those of its ranges among them
}

func readConsul(entries []entry) (Dump, error) {
	pools, bitmaps, found, err := kvKeys(entries)
	switch {
	case err != nil:
		return Dump{}, err
	case !found:
		return Dump{}, errors.Newf("the dump has no key with %s in it, under which kvipamdriver stores: dump docker/network of the Consul that it uses", kvRoot)
	case len(pools) > 0 && len(bitmaps) == 0:
		return Dump{}, errors.Newf("the dump has subnets but not what is held in them: dump all of docker/network, with %sdata too", kvRoot)
	}
	dump := Dump{Source: KVIPAM}
	var w warnings
	ranges := map[string][]kvPool{}
	for _, p := range pools {
		if p.sub.IsValid() {
			ranges[p.place()] = append(ranges[p.place()], p)
		}
	}
	left := uint64(mostHeld)
	for _, p := range pools {
		if p.sub.IsValid() {
			continue
		}
		pool, err := p.pool(ranges[p.place()], &w)
		if err != nil {
			return Dump{}, err
		}
		stored, ok := bitmaps[p.place()]
		if !ok {
			w.add("%s: none of its addresses is taken as held, as the dump has no bitmap of it", p.subnet)
		} else if err := p.hold(&pool, stored, &left); err != nil {
			return Dump{}, err
		}
		delete(bitmaps, p.place())
		dump.Pools = append(dump.Pools, pool)
	}
	for _, place := range slices.Sorted(maps.Keys(bitmaps)) {
		w.add("%s is passed over, as no network uses the subnet any more", bitmaps[place].key)
	}
	sortPools(dump.Pools)
	w.overlaps(dump.Pools)
	dump.Warnings = w.list
	return dump, nil
}

func (p kvPool) place() string { return p.space + "/" + p.subnet.String() }

// kvKeys files the keys. Docker's own are passed over.
func kvKeys(entries []entry) (pools []kvPool, bitmaps map[string]entry, found bool, err error) {
	bitmaps = map[string]entry{}
	for _, e := range entries {
		above, rest, ok := strings.Cut(strings.Trim(e.key, "/"), kvRoot)
		if !ok || above != "" && !strings.HasSuffix(above, "/") {
			continue
		}
		found = true
		what, place, _ := strings.Cut(rest, "/")
		switch {
		case what == "config" && place != "":
			list, err := kvSpace(e)
			if err != nil {
				return nil, nil, false, err
			}
			pools = append(pools, list...)
		case what == "data" && strings.Count(place, "/") == 2:
			bitmaps[place] = e
		}
	}
	// A space that was dumped twice counts once.
	slices.SortFunc(pools, func(a, b kvPool) int {
		if c := strings.Compare(a.place(), b.place()); c != 0 {
			return c
		}
		return a.sub.Compare(b.sub)
	})
	pools = slices.CompactFunc(pools, func(a, b kvPool) bool { return a.place() == b.place() && a.sub == b.sub })
	return pools, bitmaps, found, nil
}

// kvSpace reads the subnets of a space out of the value of its key. Each is named
// SPACE/ADDRESS/LENGTH, and a range in one SPACE/ADDRESS/LENGTH/ADDRESS/LENGTH.
func kvSpace(e entry) ([]kvPool, error) {
	var config struct {
		Subnets map[string]struct {
			RefCount int
		}
	}
	if err := json.Unmarshal([]byte(e.value), &config); err != nil {
		return nil, errors.Wrapf(err, "the value of %s is not what kvipamdriver writes, dump it again", e.key)
	}
	var list []kvPool
	for _, name := range slices.Sorted(maps.Keys(config.Subnets)) {
		part := strings.Split(name, "/")
		if len(part) != 3 && len(part) != 5 {
			return nil, errors.Newf("%q in the value of %s is no subnet of a space: correct it in the dump", name, e.key)
		}
		subnet, err := parseSubnet(part[1] + "/" + part[2])
		if err != nil {
			return nil, errors.Wrapf(err, "correct %q in the value of %s in the dump", name, e.key)
		}
		p := kvPool{space: part[0], subnet: subnet, count: config.Subnets[name].RefCount}
		if len(part) == 5 {
			if p.sub, err = parseSubnet(part[3] + "/" + part[4]); err != nil {
				return nil, errors.Wrapf(err, "correct %q in the value of %s in the dump", name, e.key)
			}
		}
		list = append(list, p)
	}
	return list, nil
}

// pool divides the subnet as its networks do: where all of them have an --ip-range,
// into these; where one has none, not at all.
func (p kvPool) pool(ranges []kvPool, w *warnings) (Pool, error) {
	if p.subnet.Addr().BitLen()-p.subnet.Bits() > 64 {
		return Pool{}, errors.Newf("%s is larger than any subnet kvipamdriver can have made: correct it in the dump", p.subnet)
	}
	pool := Pool{Space: "local", Subnet: p.subnet}
	if strings.Contains(strings.ToLower(p.space), "global") {
		pool.Space = "global"
	}
	var b netipx.IPSetBuilder
	direct := p.count
	for _, r := range ranges {
		direct -= r.count
		if r.sub.Bits() < p.subnet.Bits() || !p.subnet.Contains(r.sub.Addr()) {
			w.add("%s: the range %s is not in the subnet and is left out", p.subnet, r.sub)
			continue
		}
		b.AddPrefix(r.sub)
	}
	switch {
	case len(ranges) == 0:
	case direct > 0:
		w.add("%s: some networks have a range and some the whole subnet, so after the import containers get addresses of the whole subnet", p.subnet)
	default:
		pool.Ranges = without(built(&b), ends(p.subnet)).Ranges()
	}
	return pool, nil
}

// hold makes a holding of every bit, except those that libnetwork sets itself to
// keep the ends of the subnet free.
func (p kvPool) hold(pool *Pool, stored entry, left *uint64) error {
	var value struct {
		Sequence []byte
	}
	if err := json.Unmarshal([]byte(stored.value), &value); err != nil {
		return errors.Wrapf(err, "the value of %s is not what kvipamdriver writes, dump it again", stored.key)
	}
	b, err := decodeBitmap(value.Sequence)
	if err != nil {
		return errors.Wrapf(err, "the bitmap in %s is damaged, restore it from a backup of Consul", stored.key)
	}
	width := p.subnet.Addr().BitLen() - p.subnet.Bits()
	size := uint64(math.MaxUint64) // of 2⁶⁴ addresses libnetwork counts one less
	if width < 64 {
		size = 1 << width
	}
	if b.size != size {
		return errors.Newf("the bitmap in %s is of %d addresses, but %s has %d: one of them is damaged, restore it from a backup of Consul", stored.key, b.size, p.subnet, size)
	}
	if b.held() > *left {
		return errors.Newf("%s has %d addresses held, and an import takes no more than %d: remove networks that are not used any more and dump again", p.subnet, b.held(), mostHeld)
	}
	*left -= b.held()
	own := ends(p.subnet)
	for place := range b.set() {
		a := offset(p.subnet.Addr(), place)
		if !own.Contains(a) {
			pool.Held = append(pool.Held, Holding{Address: a, Kind: Endpoint, Note: noOwner})
		}
	}
	return nil
}

// offset counts on from the first address of a subnet, which has zeros there.
func offset(first netip.Addr, n uint64) netip.Addr {
	if first.Is4() {
		b := first.As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n))
		return netip.AddrFrom4(b)
	}
	b := first.As16()
	binary.BigEndian.PutUint64(b[8:], binary.BigEndian.Uint64(b[8:])+n)
	return netip.AddrFrom16(b)
}
