// SPDX-License-Identifier: Apache-2.0

package etcdlog_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// upgrade is a store in the older format, with one daemon that reads the newer.
type upgrade struct {
	*bed
	t    *testing.T
	held events.AddressAllocated
}

func startUpgrade(t *testing.T) *upgrade {
	t.Helper()
	u := &upgrade{bed: startBed(t), t: t}
	u.held = u.allocate(2)
	u.append(u.held)
	s, err := u.log.Found(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u.put("meta/store", fmt.Sprintf(`{"store":%q,"base":0,"format":%d}`, s.ID, etcdlog.OldestFormat))
	u.put("alive/h1", fmt.Sprintf(`{"machine":"m1","incarnation":1,"format":%d}`, etcdlog.Format))
	u.identity()
	return u
}

func (u *upgrade) put(key, value string) {
	u.t.Helper()
	if _, err := u.client.Put(u.t.Context(), etcdlog.DefaultPrefix+key, value); err != nil {
		u.t.Fatal(err)
	}
}

func (u *upgrade) identity() etcdlog.Store {
	u.t.Helper()
	s, err := u.log.Store(u.t.Context())
	if err != nil {
		u.t.Fatal(err)
	}
	return s
}

// suspects tries to append what older programs cannot read.
func (u *upgrade) suspects() error {
	u.t.Helper()
	_, err := u.w.Append(u.t.Context(), u.propose(suspect(u.held)))
	return err
}

// raises checks what comes of raising the store's format.
func (u *upgrade) raises(how string, format int, holdouts ...string) {
	u.t.Helper()
	raise := u.log.Raise
	if how == "by hand" {
		raise = u.log.Unlock
	}
	got, who, err := raise(u.t.Context())
	if err != nil || got != format || !slices.Equal(who, holdouts) || u.identity().Format != format {
		u.t.Errorf("raised %s: format %d, too old %v, %v; the store is in %d; want %d, %v", how, got, who, err, u.identity().Format, format, holdouts)
	}
}

// An upgrade, host after host: nothing is written that an older daemon could not read
// while one is there, and none can come once it is.
func TestFormat_raised(t *testing.T) {
	u := startUpgrade(t)
	u.put("alive/old2", `{"machine":"m3","incarnation":1}`)
	u.put("alive/old1", `{"machine":"m2","incarnation":1}`)
	if err := u.suspects(); !errors.Is(err, etcdlog.ErrStoreOld) {
		t.Errorf("written for an older daemon: %v", err)
	}
	u.append(u.allocate(3)) // all else goes on
	u.raises("by itself", etcdlog.OldestFormat, "old1", "old2")
	for _, name := range []string{"old1", "old2"} {
		if _, err := u.client.Delete(t.Context(), etcdlog.DefaultPrefix+"alive/"+name); err != nil {
			t.Fatal(err)
		}
	}
	u.raises("by itself", etcdlog.Format)
	if err := u.suspects(); err != nil {
		t.Errorf("in the newest format: %v", err)
	}
}

// A store that was lowered by hand stays so until it is raised by hand, and those who
// run learn of it.
func TestFormat_lowered(t *testing.T) {
	u := startUpgrade(t)
	u.raises("by itself", etcdlog.Format)
	operator := etcdlog.New(u.client, etcdlog.DefaultPrefix)
	if err := operator.Lower(t.Context(), etcdlog.OldestFormat); err != nil {
		t.Fatal(err)
	}
	if err := u.suspects(); err == nil {
		t.Error("what older programs cannot read was written right after the store was lowered")
	}
	if err := u.suspects(); !errors.Is(err, etcdlog.ErrStoreOld) || u.log.Format() != etcdlog.OldestFormat {
		t.Errorf("the daemon takes the store for format %d: %v", u.log.Format(), err)
	}
	u.append(u.allocate(3))
	u.raises("by itself", etcdlog.OldestFormat)
	u.put("alive/old", `{"machine":"m2","incarnation":1}`)
	u.raises("by hand", etcdlog.OldestFormat, "old")
	if _, err := u.client.Delete(t.Context(), etcdlog.DefaultPrefix+"alive/old"); err != nil {
		t.Fatal(err)
	}
	u.raises("by hand", etcdlog.Format)
	if s := u.identity(); s.Lowered {
		t.Errorf("still locked: %+v", s)
	}
}

// A daemon that finds the store in a format that it does not know writes nothing more.
func TestFormat_newer(t *testing.T) {
	u := startUpgrade(t)
	u.put("meta/store", fmt.Sprintf(`{"store":%q,"base":0,"format":%d}`, u.identity().ID, etcdlog.Format+1))
	if _, err := u.w.Append(t.Context(), u.propose(u.allocate(3))); !errors.Is(err, etcdlog.ErrStoreFormat) {
		t.Errorf("appended to a store of a newer format: %v", err)
	}
}
