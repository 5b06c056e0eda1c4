// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ipamlog/ipamlog/render"
)

// Surroundings are what a configuration depends on besides the command line.
type Surroundings struct {
	// Environ are the environment variables, each NAME=value.
	Environ []string
	// Root tells whether the defaults are those of the system's daemon, or of
	// an ordinary user who may write only below their own home.
	Root bool
	// Home is an ordinary user's home directory.
	Home string
	// Hostname is the kernel's name of this machine.
	Hostname string
	// DefaultFile is the configuration file that is read when none is named
	// and this one exists.
	DefaultFile string
}

// Process returns the surroundings of this process.
func Process() Surroundings {
	// Without a home or a name the options that need one say so.
	home, _ := os.UserHomeDir()
	hostname, _ := os.Hostname()
	return Surroundings{
		Environ:     os.Environ(),
		Root:        os.Geteuid() == 0,
		Home:        home,
		Hostname:    hostname,
		DefaultFile: "/etc/ipamlog/config.yaml",
	}
}

// Defaults returns the values of options that nobody gave.
func (s Surroundings) Defaults() Config {
	dataDir := s.dataDir()
	return Config{
		Global: Global{
			Prefix:  "/ipamlog/v1/",
			DataDir: dataDir,
			Output:  render.FormatTable,
		},
		Serve: Serve{
			Socket: s.socket(dataDir),
			Host:   s.Hostname,
			Engine: "unix:///var/run/docker.sock",
			Listen: "127.0.0.1:9477",
			Labels: []string{"com.docker.compose.*", "com.docker.swarm.*", "com.docker.stack.*"},

			Reconcile: "fix", ReconcileEvery: 30 * time.Second, ReconcileGrace: time.Minute,
		},
	}
}

func (s Surroundings) dataDir() string {
	if s.Root {
		return "/var/lib/ipamlog"
	}
	if state := s.xdg("XDG_STATE_HOME"); state != "" {
		return filepath.Join(state, "ipamlog")
	}
	if s.Home == "" {
		return ""
	}
	return filepath.Join(s.Home, ".local", "state", "ipamlog")
}

func (s Surroundings) socket(dataDir string) string {
	const name = "ipamlog.sock"
	if s.Root {
		// Where Docker looks for plugins by itself.
		return filepath.Join("/run/docker/plugins", name)
	}
	if runtime := s.xdg("XDG_RUNTIME_DIR"); runtime != "" {
		return filepath.Join(runtime, "ipamlog", name)
	}
	if dataDir == "" {
		return ""
	}
	return filepath.Join(dataDir, name)
}

// xdg returns a directory named by the environment. The XDG specification has
// relative ones ignored.
func (s Surroundings) xdg(name string) string {
	if dir := s.getenv(name); filepath.IsAbs(dir) {
		return dir
	}
	return ""
}

// getenv returns the last value of a variable, as a shell would.
func (s Surroundings) getenv(name string) string {
	value := ""
	for _, entry := range s.Environ {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			value = v
		}
	}
	return value
}
