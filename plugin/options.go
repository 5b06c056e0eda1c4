// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
)

// ErrOption is returned for an option of a network that cannot be followed.
var ErrOption = errors.New("invalid option")

// dockerPrefix begins the options that Docker adds by itself.
const dockerPrefix = "com.docker.network."

// maxName bounds a pool's name, in bytes.
const maxName = 128

// applyOptions reads the --ipam-opt of a network into a request. It returns
// [ErrOption] with a sentence that names the option.
func applyOptions(r *actor.PoolRequest, options map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(options)) {
		value := options[name]
		refuse := func(expect string) error {
			return errors.Wrapf(ErrOption, "--ipam-opt %s=%s: %s", name, value, expect)
		}
		switch name {
		case "pool":
			if !validName(value) {
				return refuse("a pool's name has 1 to 128 letters, digits, dots, dashes and underscores")
			}
			r.Name = value
		case "gateway":
			mode := events.GatewayMode(value)
			if mode != events.GatewayAuto {
				return refuse("this version knows the gateway mode auto alone")
			}
			r.Policy.Gateway = &mode
		case "pick":
			pick := events.Pick(value)
			if !slices.Contains([]events.Pick{events.PickSerial, events.PickLowest, events.PickRandom}, pick) {
				return refuse("use serial, lowest or random")
			}
			r.Policy.Pick = &pick
		case "quarantine":
			rest, err := parseRest(value)
			if err != nil {
				return refuse("use a time in whole seconds up to 24h, such as 60s, or 0")
			}
			r.Policy.Quarantine = &rest
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
				return refuse("no such option, use pool, pick, quarantine, gateway or prefix")
			}
		}
	}
	return nil
}

func validName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for _, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
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
