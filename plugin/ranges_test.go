// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/docker/go-plugins-helpers/ipam"
	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/plugin"
)

// FuzzParseRanges holds: what is read is sorted, joined and in plain form; and
// written as it was understood it is read as the same.
func FuzzParseRanges(f *testing.F) {
	for _, text := range []string{
		"", ",", "10.0.0.5", "10.0.0.5-10.0.0.9", "10.0.0.5-10.0.0.9,10.0.0.7-10.0.0.20", "10.0.0.9-10.0.0.5", "10.0.0.0/24", "10.0.0.7/24",
		"0.0.0.0/0", "::/0", "fd00::1-fd00::9，10.0.0.1、10.0.0.3;10.0.0.2", "10.0.0.1-fd00::1", "::ffff:10.0.0.0/120", "::ffff:10.0.0.1",
		"fe80::1%eth0", "fe80::%eth0/64", "255.255.255.255,255.255.255.254", "10.0.0.1-10.0.0.2-10.0.0.3", "10.0.0.1 - 10.0.0.2", "10.0.0.1/33", "-", "10.0.0.1-",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := plugin.ParseRanges(text)
		if err != nil {
			if err.Error() == "" || len(list) > 0 {
				t.Fatalf("%q: %v and %v", text, list, err)
			}
			return
		}
		if len(list) == 0 {
			t.Fatalf("%q names nothing", text)
		}
		var words []string
		for i, r := range list {
			if !r.IsValid() || r.From().Is4In6() || r.From().Zone() != "" {
				t.Fatalf("%q: %v is no plain range", text, r)
			}
			if i > 0 && (r.From().BitLen() < list[i-1].From().BitLen() || r.From().BitLen() == list[i-1].From().BitLen() && !list[i-1].To().Next().Less(r.From())) {
				t.Fatalf("%q: %v are not sorted and joined", text, list)
			}
			words = append(words, r.String())
		}
		again, err := plugin.ParseRanges(strings.Join(words, ","))
		if err != nil {
			t.Fatalf("%q was read as %v, which is not read: %v", text, list, err)
		}
		if len(again) != len(list) {
			t.Fatalf("%q was read as %v, which is read as %v", text, list, again)
		}
		for i := range list {
			if list[i] != again[i] {
				t.Fatalf("%q was read as %v, which is read as %v", text, list, again)
			}
		}
	})
}

// FuzzOptions holds: an option is followed or refused by name, and what is
// followed can stand in the log.
func FuzzOptions(f *testing.F) {
	for name, values := range map[string][]string{
		"pool": {"web", "", "a/b"}, "gateway": {"auto", "shared", "host", "none", "x"}, "range": {"10.1.0.5-10.1.0.9", "fd00::5"},
		"exclude": {"10.1.0.0/28", ""}, "pick": {"lowest"}, "quarantine": {"60s", "0", "-1s", "1.5s", "9e9h"},
		"sticky": {"name", "mac", ""}, "prefix": {"24", "64", "-1"}, "com.docker.network.x": {"y"}, "x": {""},
	} {
		for _, value := range values {
			f.Add(name, value, false)
			f.Add(name, value, true)
		}
	}
	f.Fuzz(func(t *testing.T, name, value string, v6 bool) {
		q := &ipam.RequestPoolRequest{AddressSpace: plugin.LocalSpace, Pool: "10.1.0.0/24", V6: v6, Options: map[string]string{name: value}}
		if v6 {
			q.Pool = "fd00::/64"
		}
		r, err := plugin.ReadPoolRequest(q)
		if err != nil {
			if outcome, said := plugin.Refusal(err); outcome != "bad_request" || !utf8.ValidString(said) {
				t.Fatalf("%s=%q: %s, %q", name, value, outcome, said)
			}
			return
		}
		created := events.PoolCreated{Space: events.Local, Name: r.Name, Subnet: netip.MustParsePrefix("0.0.0.0/0"), Policy: events.DefaultPolicy()}
		if v6 {
			created.Subnet = netip.MustParsePrefix("::/0")
		}
		w := r.Wish
		if w.Gateway != nil {
			created.Gateway = *w.Gateway
		}
		if w.Pick != nil {
			created.Pick = *w.Pick
		}
		if w.Quarantine != nil {
			created.Quarantine = *w.Quarantine
		}
		if w.Sticky != nil {
			created.Sticky = *w.Sticky
		}
		created.Ranges, created.Exclude = w.Ranges, w.Exclude
		if _, err := events.EncodeEvent(created); err != nil {
			t.Fatalf("%s=%q: %v", name, value, err)
		}
		commit := events.Commit{Time: time.Unix(1_800_000_000, 0), Host: "h1", Events: []events.Event{created}}
		if _, err := events.Encode(commit); err != nil {
			t.Fatalf("%s=%q cannot stand in the log: %v", name, value, err)
		}
	})
}

// Docker sends the options with the pools of both families.
func TestRangesOfBothFamilies(t *testing.T) {
	for family, want := range map[string]string{"10.1.0.0/24": "10.1.0.5-10.1.0.9", "fd00::/64": "fd00::5-fd00::5"} {
		r, err := plugin.ReadPoolRequest(&ipam.RequestPoolRequest{
			AddressSpace: plugin.LocalSpace, Pool: family, // Swarm never says the family
			Options: map[string]string{"range": "fd00::5,10.1.0.5-10.1.0.9", "exclude": "fd00::5,10.1.0.5-10.1.0.9"},
		})
		if err != nil {
			t.Fatal(err)
		}
		for option, got := range map[string][]netipx.IPRange{"range": r.Wish.Ranges, "exclude": r.Wish.Exclude} {
			if len(got) != 1 || got[0].String() != want {
				t.Errorf("%s of %s: %v, want %s", option, family, got, want)
			}
		}
	}
}
