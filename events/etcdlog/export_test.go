// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// ClockOn returns a clock on sources that a test bends.
func ClockOn(wall func() time.Time, monotonic func() time.Duration, synchronised func() bool) *Clock {
	c := NewClock()
	c.wall, c.monotonic, c.synchronised = wall, monotonic, synchronised
	return c
}

// SetAttempt changes how long one try waits for its answer.
func (l *Log) SetAttempt(d time.Duration) { l.attempt = d }

// ClientOf is the client a log speaks through.
func ClientOf(l *Log) *clientv3.Client { return l.client }

// SetReading changes how long one read waits for its answer.
func (l *Log) SetReading(d time.Duration) { l.reading = d }

// Age makes it a time since a writer wrote last.
func Age(w *Writer, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wroteAt -= d
}
