// SPDX-License-Identifier: Apache-2.0

package replay_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/replay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a log without a store.
type memory []events.Record

func (m memory) Read(_ context.Context, _ int64, progress func(int), _ ...events.Stream) ([]events.Record, int64, error) {
	if progress != nil {
		progress(len(m))
	}
	last := int64(0)
	if len(m) > 0 {
		last = m[len(m)-1].Revision
	}
	return m, last + 5, nil // the store goes on with what is not ours
}

func (m memory) ReadBetween(_ context.Context, after, until int64, _ time.Time, _ int, _ func(int)) ([]events.Record, error) {
	return slices.DeleteFunc(slices.Clone(m), func(r events.Record) bool { return r.Revision <= after || r.Revision > until }), nil
}

func load(t interface {
	Helper()
	Fatal(...any)
}, source replay.Source,
) *replay.Journal {
	t.Helper()
	h, err := replay.Load(context.Background(), source, nil)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
