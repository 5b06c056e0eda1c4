// SPDX-License-Identifier: Apache-2.0

package etcdlog_test

import (
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// TestJoinWithAWrongClock: a daemon that starts with a clock that is years ahead says
// so, and does not take the log's running time there.
func TestJoinWithAWrongClock(t *testing.T) {
	b := startBed(t)
	log := etcdlog.New(b.client, etcdlog.DefaultPrefix)
	log.Clock = etcdlog.ClockOn(func() time.Time { return time.Now().AddDate(10, 0, 0) }, etcdlog.SinceBoot, func() bool { return false })
	join(t, log, "h2")
	records, _, err := b.log.Read(t.Context(), 0, nil, events.Catalogue)
	if err != nil {
		t.Fatal(err)
	}
	joined := records[len(records)-1]
	if joined.Host != "h2" || !joined.ClockSuspect {
		t.Errorf("%s joined at %s, and its clock is not marked", joined.Host, joined.Time)
	}
	if named := joined.ID.Time(); named.After(time.Now().Add(time.Hour)) {
		t.Errorf("its commit is named by %s", named)
	}
}
