// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"context"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ipamlog/ipamlog/engine"
)

// Docker is what is asked of the engine.
type Docker interface {
	Networks(ctx context.Context) ([]engine.Network, error)
	CreateNetwork(ctx context.Context, n engine.Network) (id string, err error)
	RemoveNetwork(ctx context.Context, id string) error
}

// Machine is the machine this process runs on. It is for one goroutine.
type Machine struct {
	root   string
	handle *netlink.Handle
	docker Docker

	// obstacle is what tests put in the way of each change.
	obstacle func(change string) error
}

// kernelPatience is how long the kernel may take for one answer.
const kernelPatience = 10 * time.Second

// Open returns the machine as the calling thread sees its network. Its files
// are looked for below root, which is / but in tests.
func Open(root string, docker Docker) (*Machine, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Wrap(err, "reach the kernel's network configuration")
	}
	if err := handle.SetSocketTimeout(kernelPatience); err != nil {
		handle.Close()
		return nil, errors.Wrap(err, "limit the wait for the kernel")
	}
	return &Machine{root: root, handle: handle, docker: docker}, nil
}

// Close lets go of the machine.
func (m *Machine) Close() { m.handle.Close() }

// MayChange returns why this process may not change the machine's network, or
// nil if it may.
func MayChange() error {
	var (
		header = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		data   [2]unix.CapUserData
	)
	if err := unix.Capget(&header, &data[0]); err != nil {
		return errors.Wrap(err, "ask the kernel what this process may do")
	}
	if data[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return errors.New("this user may not change the machine's network: run this as root")
	}
	return nil
}

func (m *Machine) change(what string) error {
	if m.obstacle == nil {
		return nil
	}
	return m.obstacle(what)
}
