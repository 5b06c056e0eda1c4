// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/cockroachdb/errors"
)

// furnish makes the directories the host has for itself, and on its first boot
// a disk: /var/lib is empty, and /etc is the machine's without what the machine
// set up for its own engine, and with a name and a machine id as no other has.
func (h *Host) furnish() error {
	etc := filepath.Join(h.dir, "etc")
	_, err := os.Stat(etc)
	fresh := errors.Is(err, os.ErrNotExist)
	for _, d := range []string{h.PluginDir(), h.Dir(), etc, filepath.Join(h.dir, "var-lib")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return errors.Wrap(err, "make its directories")
		}
	}
	// The kernel mounts files on files.
	if err := os.WriteFile(filepath.Join(h.dir, "boot_id"), nil, 0o644); err != nil {
		return errors.Wrap(err, "make a boot id")
	}
	if !fresh {
		return nil
	}
	if _, err := output(exec.Command("cp", "-a", "/etc/.", etc), (*exec.Cmd).Run); err != nil {
		return errors.Wrap(err, "copy /etc")
	}
	if err := os.RemoveAll(filepath.Join(etc, "docker")); err != nil {
		return errors.Wrap(err, "clear the copy of /etc")
	}
	machine := make([]byte, 16)
	rand.Read(machine) // never fails
	for name, text := range map[string]string{
		"hostname":   h.name,
		"machine-id": hex.EncodeToString(machine),
	} {
		path := filepath.Join(etc, name)
		if err := os.RemoveAll(path); err != nil { // it may be a link, out of the copy
			return errors.Wrap(err, "clear the copy of /etc")
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			return errors.Wrap(err, "give the host a name")
		}
	}
	return nil
}
