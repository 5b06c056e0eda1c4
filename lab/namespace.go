// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"os"
	"runtime"
	"slices"

	"github.com/cockroachdb/errors"
	"golang.org/x/sys/unix"
)

// namespaces are open handles on namespaces. A network namespace lives as long
// as a handle on it does; so it needs no name, and dies with the test process.
type namespaces []namespace

type namespace struct {
	kind   string // its name below /proc/PID/ns
	flag   int
	handle *os.File
}

// kinds are the namespaces of a host.
var kinds = []namespace{
	{kind: "net", flag: unix.CLONE_NEWNET},
	{kind: "uts", flag: unix.CLONE_NEWUTS},
	{kind: "ipc", flag: unix.CLONE_NEWIPC},
	{kind: "pid", flag: unix.CLONE_NEWPID},
	{kind: "mnt", flag: unix.CLONE_NEWNS},
}

// openNamespaces opens those of a task, named as below /proc: "17" or
// "17/task/18".
func openNamespaces(task string, which []namespace) (_ namespaces, err error) {
	var ns namespaces
	for _, n := range which {
		if n.handle, err = os.Open(fmt.Sprintf("/proc/%s/ns/%s", task, n.kind)); err != nil {
			return nil, errors.CombineErrors(errors.Wrapf(err, "open the %s namespace", n.kind), ns.close())
		}
		ns = append(ns, n)
	}
	return ns, nil
}

// newNetwork makes an empty network namespace.
func newNetwork() (namespaces, error) {
	var ns namespaces
	err := onThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return errors.Wrap(err, "make a network namespace")
		}
		ns, err = openNamespaces(fmt.Sprintf("self/task/%d", unix.Gettid()), kinds[:1])
		return err
	})
	return ns, err
}

// network is the part of ns a socket cares about.
func (ns namespaces) network() namespaces {
	return slices.DeleteFunc(slices.Clone(ns), func(n namespace) bool { return n.flag != unix.CLONE_NEWNET })
}

// do runs f inside ns: what f opens, binds or starts belongs there. Goroutines
// that f starts do not.
func (ns namespaces) do(f func() error) error {
	return onThread(func() error {
		// The working directory is shared by the threads of a process, and one
		// that is shared cannot be moved into another mount namespace.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return errors.Wrap(err, "give the thread a working directory of its own")
		}
		for _, n := range ns {
			if err := unix.Setns(int(n.handle.Fd()), n.flag); err != nil {
				return errors.Wrapf(err, "enter the %s namespace", n.kind)
			}
		}
		return f()
	})
}

// onThread runs f on a thread that is thrown away with all that was changed
// about it: it stays locked to a goroutine that ends.
func onThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		result <- f()
	}()
	return <-result
}

func (ns namespaces) close() error {
	var err error
	for _, n := range ns {
		err = errors.CombineErrors(err, n.handle.Close())
	}
	return err
}
