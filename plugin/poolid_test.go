// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/plugin"
)

const samplePoolID = "ipamlog:local/01JZX0000000000000000000P1/01JZX0000000000000000000G1?host=h1&name=web&range=10.1.0.0%2F26&subnet=10.1.0.0%2F24"

// Docker keeps PoolIDs for as long as a network lives: their form is for ever.
func TestPoolIDForm(t *testing.T) {
	ref, err := plugin.ParsePoolID(samplePoolID)
	if err != nil {
		t.Fatal(err)
	}
	if again := plugin.FormatPoolID(ref); again != samplePoolID {
		t.Errorf("got %s, want %s", again, samplePoolID)
	}
	if ref.Space != events.Local || ref.Host != "h1" || ref.Name != "web" ||
		ref.Subnet != netip.MustParsePrefix("10.1.0.0/24") || ref.Range != netip.MustParsePrefix("10.1.0.0/26") {
		t.Errorf("read %+v", ref)
	}
}

func TestPoolIDRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := func(name string) (id events.ID) {
			copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, name))
			id[15] |= 1 // not the zero one
			return id
		}
		size := rapid.SampledFrom([]int{4, 16}).Draw(t, "family")
		raw := rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "address")
		raw[0] |= 1 // no IPv4 address in IPv6 clothes
		addr, _ := netip.AddrFromSlice(raw)
		bits := rapid.IntRange(8, 8*size).Draw(t, "bits")
		ref := actor.Ref{
			Space:  rapid.SampledFrom(events.Spaces()).Draw(t, "space"),
			Pool:   id("pool"),
			Grant:  id("grant"),
			Host:   rapid.StringN(0, 60, 255).Draw(t, "host"),
			Name:   rapid.StringMatching(`([A-Za-z0-9._-]{1,128})?`).Draw(t, "name"),
			Subnet: netip.PrefixFrom(addr, bits).Masked(),
		}
		if rapid.Bool().Draw(t, "ranged") {
			ref.Range = netip.PrefixFrom(addr, rapid.IntRange(bits, 8*size).Draw(t, "range")).Masked()
		}
		text := plugin.FormatPoolID(ref)
		got, err := plugin.ParsePoolID(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got != ref {
			t.Fatalf("%s: got %+v, want %+v", text, got, ref)
		}
	})
}

func TestPoolIDIsRefused(t *testing.T) {
	for name, tt := range map[string]struct{ old, new string }{
		"nothing":              {samplePoolID, ""},
		"another driver's":     {"ipamlog:", "LocalDefault/"},
		"another space":        {"local/", "elsewhere/"},
		"no pool":              {"/01JZX0000000000000000000P1", ""},
		"half a pool":          {"0000P1", ""},
		"the zero pool":        {"01JZX0000000000000000000P1", "00000000000000000000000000"},
		"a pool out of bounds": {"01JZX0000000000000000000P1", "81JZX0000000000000000000P1"},
		"half a grant":         {"0000G1", ""},
		"the zero grant":       {"01JZX0000000000000000000G1", "00000000000000000000000000"},
		"more parts":           {"?", "/more?"},
		"no subnet":            {"&subnet=10.1.0.0%2F24", ""},
		"host bits":            {"10.1.0.0%2F24", "10.1.0.1%2F24"},
		"IPv4 in IPv6":         {"range=10.1.0.0%2F26&subnet=10.1.0.0%2F24", "subnet=%3A%3Affff%3A10.1.0.0%2F120"},
		"a range outside":      {"10.1.0.0%2F26", "10.2.0.0%2F26"},
		"a range too wide":     {"10.1.0.0%2F26", "10.1.0.0%2F16"},
		"a name that is none":  {"name=web", "name=a%0Ab"},
		"broken escapes":       {"name=web", "name=%zz"},
		"endless":              {"name=web", "name=" + strings.Repeat("w", 4000)},
	} {
		text := strings.Replace(samplePoolID, tt.old, tt.new, 1)
		if text == samplePoolID {
			t.Fatalf("%s changes nothing", name)
		}
		_, err := plugin.ParsePoolID(text)
		if !errors.Is(err, plugin.ErrPoolID) {
			t.Errorf("%s: %s: %v", name, text, err)
			continue
		}
		if len(err.Error()) > 300 {
			t.Errorf("%s: the refusal has %d bytes", name, len(err.Error()))
		}
	}
}

// FuzzPoolID: whatever is read can be written, and says the same again.
func FuzzPoolID(f *testing.F) {
	f.Add(samplePoolID)
	f.Add("ipamlog:global/01JZX0000000000000000000P1/01JZX0000000000000000000G1?subnet=fd00%3A%3A%2F64")
	f.Add("ipamlog:local//?")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		ref, err := plugin.ParsePoolID(text)
		if err != nil {
			if !errors.Is(err, plugin.ErrPoolID) {
				t.Fatal(err)
			}
			return
		}
		written := plugin.FormatPoolID(ref)
		again, err := plugin.ParsePoolID(written)
		if err != nil || again != ref {
			t.Fatalf("%q was read as %+v, written as %q, read as %+v, %v", text, ref, written, again, err)
		}
	})
}
