// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
)

// ErrOption is returned for an option of a network that cannot be followed.
var ErrOption = errors.New("invalid option")

// dockerPrefix begins the options that Docker adds by itself.
const dockerPrefix = "com.docker.network."

// applyOptions reads the --ipam-opt of a network into a request. It returns
// [ErrOption] with a sentence that names the option.
func applyOptions(r *actor.PoolRequest, options map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(options)) {
		value := options[name]
		refuse := func(expect string) error {
			return errors.Wrapf(ErrOption, "--ipam-opt %s=%s: %s", visible(name), visible(value), expect)
		}
		switch name {
		case "pool":
			if !events.ValidPoolName(value) {
				return refuse("a pool's name has 1 to 128 letters, digits, dots, dashes and underscores")
			}
			r.Name = value
		case "gateway":
			mode := events.GatewayMode(value)
			if !mode.Known() {
				return refuse("use auto, shared, host or none")
			}
			r.Wish.Gateway = &mode
		case "range":
			ranges, err := ownRanges(value, r.V6)
			if err != nil {
				return refuse(err.Error())
			}
			r.Wish.Ranges = ranges
		case "exclude":
			ranges, err := ownRanges(value, r.V6)
			if err != nil {
				return refuse(err.Error())
			}
			r.Wish.Exclude = ranges
		case "sticky":
			sticky := events.Sticky(value)
			if sticky == events.StickyNot || !sticky.Known() {
				return refuse("use name or mac")
			}
			r.Wish.Sticky = &sticky
		case "pick":
			pick := events.Pick(value)
			if !pick.Known() {
				return refuse("use serial, lowest or random")
			}
			r.Wish.Pick = &pick
		case "quarantine":
			rest, err := parseRest(value)
			if err != nil {
				return refuse("use a time in whole seconds up to 24h, such as 60s, or 0")
			}
			r.Wish.Quarantine = &rest
		case "prefix":
			bits, err := strconv.Atoi(value)
			v4, v6 := bits >= 8 && bits <= 30, bits >= 48 && bits <= 126
			if err != nil || !v4 && !v6 {
				return refuse("use the length of a subnet, 8 to 30 for IPv4 and 48 to 126 for IPv6")
			}
			// Docker sends it with the pools of both families: it is about the one
			// whose length it can be.
			switch own := r.V6 && v6 || !r.V6 && v4; {
			case own && !r.Subnet.IsValid():
				r.Bits = bits
			case own && r.Subnet.Bits() != bits:
				return refuse("the subnet " + r.Subnet.String() + " has another length")
			}
		default:
			if !strings.HasPrefix(name, dockerPrefix) {
				return refuse("no such option, use pool, gateway, range, exclude, pick, quarantine, sticky or prefix")
			}
		}
	}
	return nil
}

// ownRanges reads a list of ranges, and keeps those of one family: Docker sends the
// option with the pools of both.
func ownRanges(text string, v6 bool) ([]netipx.IPRange, error) {
	all, err := ParseRanges(text)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(r netipx.IPRange) bool { return r.From().Is6() != v6 }), nil
}

// ParseRanges reads ranges as users write them, separated by commas: A-B, a single
// address, or a subnet in CIDR form. They come back as [events.Normalize] makes
// them. Its error is a sentence about the range that is none.
func ParseRanges(text string) ([]netipx.IPRange, error) {
	var ranges []netipx.IPRange
	words := strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune(",，、; ", c) })
	for _, word := range words {
		r, err := parseRange(word)
		if err != nil {
			return nil, err
		}
		ranges = append(ranges, r)
	}
	if len(ranges) == 0 {
		return nil, errors.New("name ranges such as 10.0.0.10-10.0.0.50")
	}
	return events.Normalize(ranges), nil
}

func parseRange(word string) (netipx.IPRange, error) {
	if prefix, err := netip.ParsePrefix(word); err == nil && !prefix.Addr().Is4In6() {
		return netipx.RangeOfPrefix(prefix.Masked()), nil
	}
	from, to, two := strings.Cut(word, "-")
	if !two {
		to = from
	}
	first, err := netip.ParseAddr(from)
	last, err2 := netip.ParseAddr(to)
	switch {
	case err != nil || err2 != nil || first.Zone() != "" || last.Zone() != "" || first.Is4In6() || last.Is4In6():
		return netipx.IPRange{}, errors.Newf("%q is no range such as 10.0.0.10-10.0.0.50", word)
	case first.Is4() != last.Is4():
		return netipx.IPRange{}, errors.Newf("the ends of %s are of different families, write both as IPv4 or both as IPv6", word)
	case last.Less(first):
		return netipx.IPRange{}, errors.Newf("%s ends before it begins, write %s-%s", word, last, first)
	}
	return netipx.IPRangeFrom(first, last), nil
}

func parseRest(s string) (events.Seconds, error) {
	if s == "0" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > 24*time.Hour || d%time.Second != 0 {
		return 0, errors.Newf("%q is no length of rest", s)
	}
	return events.Seconds(d / time.Second), nil
}

// visible is what somebody wrote, quoted where a terminal would obey it or hide it.
func visible(text string) string {
	if quoted := strconv.Quote(text); quoted != `"`+text+`"` {
		return quoted
	}
	return text
}
