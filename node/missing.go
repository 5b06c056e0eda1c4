// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ipamlog/ipamlog/config"
)

// pluginDir is where Docker looks for the sockets of plugins (moby,
// pkg/plugins/discovery_unix.go).
const pluginDir = "/run/docker/plugins"

// Missing says, a sentence each, what keeps Docker on this machine from using
// the daemon.
func (n *Node) Missing() []string {
	var missing []string
	if dir := filepath.Dir(n.cfg.Socket); dir != pluginDir {
		sentence := fmt.Sprintf("Docker looks for plugins in %s, and this socket is elsewhere: ", pluginDir)
		if os.Geteuid() != 0 {
			sentence += "run ipamlog as root to be found."
		} else {
			sentence += "leave --socket out to be found."
		}
		missing = append(missing, sentence)
	}
	path, isUnix := strings.CutPrefix(n.cfg.Engine, "unix://")
	if n.cfg.Engine == config.Off || !isUnix {
		return missing
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = conn.Close()
	case os.IsPermission(err):
		missing = append(missing, fmt.Sprintf("the Docker engine at %s may not be used by this user.", path))
	default:
		missing = append(missing, fmt.Sprintf("no Docker engine answers at %s: install it with `apt-get install docker.io`, or start it.", path))
	}
	return missing
}
