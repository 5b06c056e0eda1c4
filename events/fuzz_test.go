// SPDX-License-Identifier: Apache-2.0

package events_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ipamlog/ipamlog/events"
)

// FuzzDecode holds: whatever is read can be shown; and whatever is read and is
// all this version's own can be written, and is the same when read again.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "v*", "*.json"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, layout := range []string{
		`"ranges":["10.0.0.1-10.0.0.9","10.0.0.3-10.0.0.12"]`, `"ranges":["10.0.0.9-10.0.0.1"]`, `"exclude":[""]`, `"exclude":[null]`,
		`"ranges":["::ffff:10.0.0.1-::ffff:10.0.0.9"]`, `"ranges":["fe80::1%a-fe80::9%a"]`, `"router":"fe80::1%a"`, `"router":"::ffff:10.0.0.1"`,
		`"host_ranges":["10.0.0.1-fd00::1"]`, `"ranges":["0.0.0.0-255.255.255.255","::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],"kept":true`,
	} {
		f.Add([]byte(head + `"events":[{"type":"pool.changed","space":"local",` + layout + `}]}`))
		f.Add([]byte(head + `"events":[{"type":"pool.created","space":"local","subnet":"10.0.0.0/24","gateway":"shared","pick":"serial","quarantine":60,"sticky":"mac","node":"h1",` + layout + `}]}`))
	}
	f.Add([]byte(head + `"events":[{"type":"address.reserved","allocation":"01KAHR4M5N0000000000000002","address":"10.0.0.7","why":""}]}`))
	f.Add([]byte(head + `"events":[{"type":"address.unreserved","allocation":"01KAHR4M5N0000000000000002","address":"::ffff:10.0.0.7"}]}`))
	for _, name := range []string{"suspected", "cleared", "reclaimed", "conflicted"} {
		f.Add([]byte(head + `"events":[{"type":"address.` + name + `","allocation":"01KAHR4M5N0000000000000002","address":"10.0.0.7","host":"h1","mac":"0242.0a32.0082","holder":""}]}`))
		f.Add([]byte(head + `"events":[{"type":"address.` + name + `","address":"::ffff:10.0.0.7","host":null}]}`))
	}
	f.Add([]byte(head + `"events":[{"type":"host.left","host":"h1","incarnation":18446744073709551615},{"type":"host.taken-over","host":"h1","incarnation":2,"by":"h2"}]}`))
	f.Add([]byte(head + `"events":[{"type":"grant.closing","type":"grant.closed","grant":"01KAHR4M5N0000000000000002"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		commit, err := events.Decode(data)
		if err != nil {
			return
		}
		for _, e := range commit.Events {
			shown, err := events.EncodeEvent(e)
			if err != nil {
				t.Fatalf("cannot be shown: %v", err)
			}
			again, err := events.DecodeEvent(shown)
			if err != nil {
				t.Fatalf("shown as %s, which cannot be read: %v", shown, err)
			}
			if diff := cmp.Diff(e, again, equate); diff != "" {
				t.Fatalf("shown as %s, which is another: %s", shown, diff)
			}
			if _, unknown := e.(events.Unknown); unknown {
				return
			}
		}
		encoded, err := events.Encode(commit)
		if err != nil {
			t.Fatalf("read, but cannot be written: %v", err)
		}
		again, err := events.Decode(encoded)
		if err != nil {
			t.Fatalf("written as %s, which cannot be read: %v", encoded, err)
		}
		twice, err := events.Encode(again)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(encoded, twice) {
			t.Fatalf("changed on the way:\n%s\n%s", encoded, twice)
		}
	})
}

// FuzzDecodeEvent reads events that no decoder has looked at before.
func FuzzDecodeEvent(f *testing.F) {
	for _, c := range samples() {
		for _, e := range c.Events {
			shown, err := events.EncodeEvent(e)
			if err != nil {
				f.Fatal(err)
			}
			f.Add([]byte(shown))
		}
	}
	f.Add([]byte(`{"type":"x",garbage`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := events.DecodeEvent(data)
		if err != nil {
			return
		}
		shown, err := events.EncodeEvent(e)
		if err != nil {
			t.Fatalf("read %+v, which cannot be shown: %v", e, err)
		}
		if again, err := events.DecodeEvent(shown); err != nil || again.Type() != e.Type() {
			t.Fatalf("shown as %s, which reads as %v (%v)", shown, again, err)
		}
	})
}

// FuzzDecodeGuard holds the same of guards, whatever guard the bytes are taken for.
func FuzzDecodeGuard(f *testing.F) {
	f.Add([]byte(`{"subnet":"10.0.0.0/24","gateway":"auto","pick":"serial","quarantine":60,"x":1}`))
	f.Add([]byte(`{"host":"h1","state":"open","range":"10.0.0.0/28"}`))
	f.Add([]byte(`{"machine":"m1","incarnation":7}`))
	f.Add([]byte(`{"machine":"m1","incarnation":7,"left":"2026-11-21T14:00:00.1234567+02:00","taken_over":true}`))
	f.Add([]byte(`{"allocations":[{"allocation":"01KAHR4M5N0000000000000003","kind":"endpoint","commit":"01KAHR4M5N0000000000000001","suspected":"2026-11-21T14:00:00+02:00"}]}`))
	f.Add([]byte(`{"allocations":[{"allocation":"01KAHR4M5N0000000000000003","kind":"gateway","shared":true,"mac":"02:00:00:00:00:01","commit":"01KAHR4M5N0000000000000001","x":1}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzGuard[events.Pool](t, data)
		fuzzGuard[events.Grant](t, data)
		fuzzGuard[events.HostGuard](t, data)
		fuzzGuard[events.Held](t, data)
	})
}

func fuzzGuard[T events.Pool | events.Grant | events.HostGuard | events.Held](t *testing.T, data []byte) {
	v, err := events.DecodeGuard[T](data)
	if err != nil {
		return
	}
	encoded, err := events.EncodeGuard(v)
	if err != nil {
		t.Fatalf("%T: read, but cannot be written: %v", v, err)
	}
	again, err := events.DecodeGuard[T](encoded)
	if err != nil {
		t.Fatalf("%T: written as %s, which cannot be read: %v", v, encoded, err)
	}
	twice, err := events.EncodeGuard(again)
	if err != nil || !bytes.Equal(encoded, twice) {
		t.Fatalf("%T: changed on the way (%v):\n%s\n%s", v, err, encoded, twice)
	}
}
