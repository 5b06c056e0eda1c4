// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// Daemon is ipamlog serving a host's engine, on /run/docker/plugins/ipamlog.sock
// there.
type Daemon struct {
	Service
	options []string
}

// Daemon prepares a daemon for the host, which [Service.Start] starts. The
// options are added to those of ipamlog serve; all else is as its users have
// it, with the data in the host's own /var/lib/ipamlog.
func (h *Host) Daemon(options ...string) *Daemon {
	d := &Daemon{options: options}
	d.Host = h
	log := filepath.Join(h.dir, "ipamlog.log")
	var before int // what the log had when the daemon was started
	d.command = func() (*exec.Cmd, error) {
		said, _ := os.ReadFile(log) // is not there at first
		before = len(said)
		return d.Command()
	}
	d.ready = func() bool {
		said, err := os.ReadFile(log)
		return err == nil && bytes.Contains(said[before:], []byte("ipamlog is serving on"))
	}
	return d
}

// Command is what starts the daemon, with some more options, for those who
// start it by [Host.Start] themselves.
func (d *Daemon) Command(options ...string) (*exec.Cmd, error) {
	return Ipamlog(slices.Concat([]string{"serve"}, d.options, options)...)
}
