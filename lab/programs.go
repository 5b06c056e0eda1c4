// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/errors"
)

const module = "github.com/ipamlog/ipamlog"

// programs are the commands of this module that hosts run, each built when it is
// first needed, in a directory that this process shares among its labs.
var programs struct {
	mu   sync.Mutex
	dir  string
	lock *os.File
}

// Ipamlog prepares a run of ipamlog, for [Host.Start], that nothing in this
// process's environment configures. The program is built the first time, which
// works below the module's root, where tests run.
func Ipamlog(args ...string) (*exec.Cmd, error) {
	binary, err := program(module)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "IPAMLOG_") })
	return cmd, nil
}

// RemovePrograms removes what was built for labs: the last thing that a process
// which starts daemons or clusters does. After a kill, the next lab does it.
func RemovePrograms() error {
	programs.mu.Lock()
	defer programs.mu.Unlock()
	if programs.dir == "" {
		return nil
	}
	err := errors.Join(os.RemoveAll(programs.dir), programs.lock.Close())
	programs.dir = ""
	return errors.Wrap(err, "remove the lab's programs")
}

func program(command string) (string, error) {
	programs.mu.Lock()
	defer programs.mu.Unlock()
	if programs.dir == "" {
		var err error
		if programs.dir, programs.lock, err = claimDirectory(); err != nil {
			return "", err
		}
	}
	file := filepath.Join(programs.dir, path.Base(command))
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	_, err := output(exec.Command("go", "build", "-o", file, command), (*exec.Cmd).Run)
	return file, errors.Wrapf(err, "build %s", command)
}
