// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"golang.org/x/sys/unix"
)

// cpuOf is what a process has had of the CPUs so far.
func cpuOf(pid int) (time.Duration, error) {
	// A process' clock is named by its inverted number and the kind of clock, here what
	// the scheduler gave it: see clock_getcpuclockid(3).
	const scheduled = 2
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &used); err != nil {
		return 0, errors.Wrapf(err, "read the CPU time of process %d", pid)
	}
	return time.Duration(used.Nano()), nil
}

// residentOf is how many bytes of a process are in memory (proc(5)), without those of
// files it has mapped: etcd maps its database, and the kernel takes that back as it likes.
func residentOf(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, errors.Wrap(err, "read a process' memory")
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return n * 1024, errors.Wrap(err, "read a process' memory")
		}
	}
	return 0, errors.New("the kernel does not tell a process' memory")
}
