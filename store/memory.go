// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/durable"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// memoryFile is where a daemon remembers its store, within the data directory.
const memoryFile = "store.json"

// ErrMemory is returned by [Recollect] for a memory that cannot be read.
var ErrMemory = errors.New("what is remembered of the store is damaged")

// Recollect reads what the daemon of a data directory remembers of its store;
// false if it remembers none.
func Recollect(dir string) (etcdlog.Memory, bool, error) {
	raw, err := os.ReadFile(filepath.Join(dir, memoryFile))
	if os.IsNotExist(err) {
		return etcdlog.Memory{}, false, nil
	}
	if err != nil {
		return etcdlog.Memory{}, false, errors.Wrap(err, "read which store is remembered")
	}
	var m etcdlog.Memory
	if err := json.Unmarshal(raw, &m); err != nil {
		return etcdlog.Memory{}, false, errors.Mark(errors.Newf("%s is damaged (%v): see which store is there, and accept it with `ipamlog adopt --store`", filepath.Join(dir, memoryFile), err), ErrMemory)
	}
	return m, true, nil
}

// Remember writes it. The file is replaced whole, and on disk when Remember
// returns.
func Remember(dir string, m etcdlog.Memory) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return errors.Wrap(err, "write which store is remembered")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return errors.Wrap(err, "make the data directory")
	}
	err = durable.WriteFile(filepath.Join(dir, memoryFile), append(raw, '\n'), 0o600)
	return errors.Wrap(err, "write which store is remembered")
}
