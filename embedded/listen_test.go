// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNoNetworkPortIsOpened(t *testing.T) {
	before := ownPorts(t)
	s := start(t, quick(dataDir(t)))
	put(t, dial(t, s.Endpoint()), "k", "v")
	if diff := cmp.Diff(before, ownPorts(t)); diff != "" {
		t.Errorf("the server opened ports: %s", diff)
	}

	// The look itself must be able to see one.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if len(ownPorts(t)) != len(before)+1 {
		t.Error("a port that was opened was not seen")
	}
}

// ownPorts are the addresses, as the kernel prints them, at which this process
// listens on TCP or holds a UDP socket.
func ownPorts(t *testing.T) []string {
	t.Helper()
	const inode, state, listening = 9, 3, "0A"
	own := ownSockets(t)
	var ports []string
	for _, proto := range []string{"tcp", "tcp6", "udp", "udp6"} {
		table, err := os.ReadFile(filepath.Join("/proc/self/net", proto))
		if os.IsNotExist(err) {
			continue // a kernel without IPv6
		}
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(table)) {
			fields := strings.Fields(line)
			if len(fields) <= inode || !own[fields[inode]] {
				continue
			}
			if strings.HasPrefix(proto, "udp") || fields[state] == listening {
				ports = append(ports, proto+" "+fields[1])
			}
		}
	}
	slices.Sort(ports)
	return ports
}

// ownSockets are the inodes of the sockets this process has open.
func ownSockets(t *testing.T) map[string]bool {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]bool{}
	for _, fd := range fds {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name()))
		if err != nil {
			continue // closed since
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return own
}
