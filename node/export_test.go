// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"time"
)

// RefreshIndex brings the index up to date, where one is to be kept.
func (n *Node) RefreshIndex(ctx context.Context) error { return n.refreshIndex(ctx, n.joined.Load()) }

// Fullness decides what is told of the store's sizes.
type Fullness struct{ f fullness }

// Note takes what is in use of a file and of a quota.
func (f *Fullness) Note(at time.Time, file, inUse, quota int64) (passed bool, left time.Duration, bloated bool) {
	return f.f.note(at, sizes{file: file, inUse: inUse, quota: quota})
}

// Warning is what is said of a store.
func Warning(inUse, quota int64, left time.Duration, archiving bool) string {
	return warning(sizes{inUse: inUse, quota: quota}, left, archiving)
}
