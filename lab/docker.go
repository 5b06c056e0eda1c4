// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
)

// Socket is the path, for the test, of the engine's API; on the host it is
// /run/docker.sock.
func (h *Host) Socket() string { return filepath.Join(h.dir, "run", "docker.sock") }

// Docker runs the docker command against the host's engine and returns its
// standard output without the spaces around it. The error holds what it wrote
// to standard error.
func (h *Host) Docker(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(h.lab.ctx, commandLimit)
	defer cancel()
	return output(h.docker(ctx, args...), (*exec.Cmd).Run)
}

// MustDocker is [Host.Docker] for a command that must succeed.
func (h *Host) MustDocker(t T, args ...string) string {
	t.Helper()
	out, err := h.Docker(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (h *Host) docker(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", append([]string{"--host", "unix://" + h.Socket()}, args...)...)
	// Whatever the user of the machine configured is not the lab's.
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+filepath.Join(h.dir, "docker-config"), "DOCKER_CONTEXT=",
		"GOGC=off") // it ends before its garbage matters
	return cmd
}
