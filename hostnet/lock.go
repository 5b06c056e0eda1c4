// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"os"
	"path/filepath"

	"github.com/cockroachdb/errors"
	"golang.org/x/sys/unix"
)

// lockPath is where a reboot removes it.
const lockPath = "/run/ipamlog-create-network.lock"

// ErrBusy marks an error of a run beside another.
var ErrBusy = errors.New("another create-network is running")

// Lock keeps other runs from changing the machine until unlock is called, or this
// process ends. While another has it, the error is marked [ErrBusy]. The file
// stays: who removed it might have two runs hold two of its name.
func (m *Machine) Lock() (unlock func() error, err error) {
	const what = "keep other runs of create-network away"
	f, err := os.OpenFile(filepath.Join(m.root, lockPath), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, errors.Wrap(err, what)
	}
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil, errors.CombineErrors(errors.Mark(errors.New("another create-network is running here: wait for it"), ErrBusy), f.Close())
	case err != nil:
		return nil, errors.CombineErrors(errors.Wrap(err, what), f.Close())
	}
	return func() error { return errors.Wrap(f.Close(), "let go of the lock") }, nil
}
