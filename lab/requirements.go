// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"debug/elf"
	"os"
	"os/exec"
	"strings"

	"github.com/cockroachdb/errors"
)

// required maps each command the lab runs to the Debian package it is in.
var required = []struct{ command, debianPackage string }{
	{"dockerd", "docker.io"},
	{"docker", "docker.io"},
	{"containerd", "containerd"},
	{"containerd-shim-runc-v2", "containerd"},
	{"runc", "runc"},
	{"ip", "iproute2"},
	{"iptables", "iptables"},
	{"busybox", "busybox-static"},
	{"mount", "mount"},
}

func checkRequirements() error {
	if os.Geteuid() != 0 {
		return errors.New("the lab makes namespaces and runs Docker engines: run this as root")
	}
	var missing []string
	for _, r := range required {
		if _, err := exec.LookPath(r.command); err != nil {
			missing = append(missing, r.debianPackage)
		}
	}
	if len(missing) > 0 {
		return errors.Newf("the lab misses programs: run scripts/prepare, or apt-get install %s", strings.Join(missing, " "))
	}
	if _, err := staticBusybox(); err != nil {
		return err
	}
	return nil
}

// staticBusybox finds the busybox that becomes the image, where it will find
// no shared libraries.
func staticBusybox() (string, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return "", errors.Wrap(err, "find busybox")
	}
	f, err := elf.Open(path)
	if err != nil {
		return "", errors.Wrapf(err, "read %s", path)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return "", errors.Newf("%s needs shared libraries, which the lab's image lacks: apt-get install busybox-static", path)
		}
	}
	return path, nil
}
