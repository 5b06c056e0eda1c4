// SPDX-License-Identifier: Apache-2.0

package replay_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/replaytest"
)

// morning is the story with attributions.
func morning(t *testing.T) *replay.Journal {
	t.Helper()
	store := replaytest.Start(t)
	teller := store.Tell(t, prefix)
	teller.Night()
	teller.Morning()
	return load(t, etcdlog.New(store.Client, prefix))
}

func everything(h *replay.Journal) replay.Span {
	return replay.Span{To: h.Now(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))}
}

func TestHistory_Subject(t *testing.T) {
	h := morning(t)
	for _, c := range []struct{ word, kind, allocations string }{
		{"10.50.0.2", "address", "2 6 22 25 26"},
		{"::ffff:10.50.0.2", "address", "2 6 22 25 26"},
		{"FD00:1::2", "address", "8 23"},
		{"0242.0a32.0006", "mac", "6"},
		{"02420a320006", "mac", "6"},
		{"fd00:1::/64", "pool", "8 23"}, // two incarnations of one pool
		{"pool:fd00:1::/64", "pool", "8 23"},
		{"blue", "pool", "7 22"},
		{"h3", "host", "20"},
		// A container: every name it had, its id, the beginning of its id.
		{"web-1", "container", "6 22"},
		{"web-old", "container", "6"},
		{"container:web-1", "container", "6 22"},
		{"endpoint:web-1", "endpoint", "22"},
		{replaytest.Web1, "container", "6"},
		{"4f2a91c0aa31", "container", "6"},
		{"4F2A9", "container", "6"},
		{replaytest.EvilName, "container", "2"},
		{"c4", "container", "5"}, // an endpoint and a container that are the same
		{"c9", "endpoint", "25"}, // an endpoint whose container is not known
		// An image: as docker reads a reference, and without a tag every one.
		{"nginx", "image", "2 6 22"},
		{"nginx:1.27", "image", "6 22"},
		{"docker.io/library/nginx:1.27", "image", "6 22"},
		{"nginx:latest", "image", "2"},
		{"registry.example:5000/team/db", "image", "5"},
		{replaytest.Nginx, "image", "6 22"},
		{"sha256:c0ffee12", "image", "6 22"},
		{"c0ffee9", "image", "2"},
		{"image:c0ffee9", "image", "2"},
		// A network.
		{"shop_default", "network", "1 2 6"},
		{"7e57ab", "network", "1 2 6"},
		{"label:com.docker.compose.project=shop", "label", "6"},
		{"label:com.docker.compose.project", "label", "2 6"},
	} {
		s, err := h.Subject(c.word)
		if err != nil {
			t.Errorf("%s: %v", c.word, err)
			continue
		}
		var got []string
		for _, x := range h.Of(s, everything(h)) {
			got = append(got, fmt.Sprint(x.Allocation[15]))
		}
		if got := strings.Join(got, " "); s.Kind != c.kind || got != c.allocations {
			t.Errorf("%s: %s %s, want %s %s", c.word, s.Kind, got, c.kind, c.allocations)
		}
	}
}

func TestHistory_Subject_refused(t *testing.T) {
	h := morning(t)
	for _, c := range []struct {
		word string
		kind error
		want string
	}{
		{"nobody", replay.ErrNotFound, `the log knows no address, mac, pool, host, container, image, network, endpoint "nobody"`},
		{"02:42:ff:ff:ff:ff", replay.ErrNotFound, `the log knows no mac "02:42:ff:ff:ff:ff"`},
		{"container:c9", replay.ErrNotFound, `the log knows no container "c9"`},
		{"image:nginx:1.28", replay.ErrNotFound, `the log knows no image "nginx:1.28"`},
		{"notnginx", replay.ErrNotFound, `the log knows no address`},
		{"4f2", replay.ErrNotFound, `the log knows no address`}, // too short to be an id
		{"label:com.docker.compose.project=other", replay.ErrNotFound, `the log knows no label`},
		{"", replay.ErrNotFound, `the log knows no address`},
		{"container:", replay.ErrNotFound, `the log knows no container ""`},
		{"image:", replay.ErrNotFound, `the log knows no image ""`},
		{"network:", replay.ErrNotFound, `the log knows no network ""`},
		{"label:", replay.ErrNotFound, `the log knows no label ""`},
		{"4f2a", replay.ErrAmbiguous, `the ids of 2 containers begin with "4f2a": 4f2a77de02b90000 (` + replaytest.EvilName +
			`, 2025-03-01T03:10:07.123456Z to 2025-03-01T03:12:00.000000Z), 4f2a91c0aa310000 (web-old, 2025-03-01T03:30:00.000000Z to 2025-03-01T04:50:00.000000Z): write more of one`},
		{"sha256:c0ffee", replay.ErrAmbiguous, `the ids of 2 images begin with "sha256:c0ffee": `},
		{"web", replay.ErrAmbiguous, `"web" is the name of several things (pool, endpoint): write pool:web or endpoint:web`},
		{"10.50.0.0/24", replay.ErrAmbiguous, `"10.50.0.0/24" means 2 pools: web (` + replaytest.Web.String() + `, since 2025-03-01T03:10:00.000000Z), blue (`},
	} {
		s, err := h.Subject(c.word)
		if !errors.Is(err, c.kind) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, %v, want %s", c.word, s.Kind, err, c.want)
		}
	}
}

// Many ids that begin alike are not all listed.
func TestHistory_Subject_crowd(t *testing.T) {
	log := memory{commit(1, 0, created("web"))}
	for n := byte(2); n < 10; n++ {
		address := fmt.Sprintf("10.50.0.%d", n)
		log = append(log, commit(int64(n), int(n), allocated(n), replaytest.Attributed(n, address, events.Attribution{ContainerID: fmt.Sprintf("abcd%02d", n)})))
	}
	_, err := load(t, log).Subject("abcd")
	if err == nil || !strings.HasPrefix(err.Error(), `the ids of 8 containers begin with "abcd": abcd02 (since 2025-03-01T03:02:00.000000Z)`) ||
		!strings.HasSuffix(err.Error(), `, and 3 more: write more of one`) {
		t.Errorf("%v", err)
	}
}

// A network that bears its pool's name, and of which less is known, is no second
// thing; a container that bears its image's is, but not where both held the same.
func TestHistory_Subject_merged(t *testing.T) {
	told := func(n byte, name, image, network string) events.Event {
		return replaytest.Attributed(n, fmt.Sprintf("10.50.0.%d", n), events.Attribution{
			ContainerID: "c" + name, ContainerName: name, Image: image, NetworkID: "n" + network, NetworkName: network,
		})
	}
	one := memory{
		commit(1, 0, created("web")), commit(2, 1, allocated(2), allocated(3)),
		commit(3, 2, told(2, "nginx", "nginx", "web")),
	}
	for word, kind := range map[string]string{"web": "pool", "nginx": "container", "c2": "endpoint"} {
		if s, err := load(t, one).Subject(word); err != nil || s.Kind != kind {
			t.Errorf("%s: %s, %v, want %s", word, s.Kind, err, kind)
		}
	}
	two := append(slices.Clone(one), commit(4, 3, told(3, "other", "nginx", "web")))
	if s, err := load(t, two).Subject("nginx"); !errors.Is(err, replay.ErrAmbiguous) {
		t.Errorf("nginx: %s, %v", s.Kind, err)
	}
}

// Whatever a user writes is understood or refused with a reason.
func FuzzHistory_Subject(f *testing.F) {
	h := load(f, memory{
		commit(1, 0, created("web")), commit(2, 1, allocated(2), allocated(3)),
		commit(3, 2, replaytest.Attributed(2, "10.50.0.2", events.Attribution{
			ContainerID: replaytest.Web1, ContainerName: "web-1", Image: "nginx:1.27@sha256:" + strings.Repeat("0f", 32),
			ImageID: replaytest.Nginx, NetworkID: replaytest.NetShop, NetworkName: "shop", Labels: map[string]string{"a": "b"},
		})),
	})
	for _, word := range []string{
		"10.50.0.2", "fe80::1%eth0", "02:42:0a:32:00:02", "02420a320002", "10.50.0.0/24", "web", "h1", "c2", "web-1",
		"4f2a", "sha256:c0ffee12", "nginx", "nginx:1.27", "docker.io/nginx@sha256:00", "image:", "label:a=b", "label:=", "network:7e57", "pool::", ":", "\xff", "é", "/",
	} {
		f.Add(word)
	}
	f.Fuzz(func(t *testing.T, word string) {
		s, err := h.Subject(word)
		if err != nil {
			if !errors.IsAny(err, replay.ErrNotFound, replay.ErrAmbiguous) {
				t.Fatalf("%q: %v", word, err)
			}
			return
		}
		if !slices.Contains(replay.SubjectKinds(), s.Kind) {
			t.Fatalf("%q is a %q", word, s.Kind)
		}
		h.Of(s, everything(h))
	})
}
