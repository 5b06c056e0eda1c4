// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
)

// makeLab starts make lab as a person does, or a script. A signal to the process
// group of make reaches its program too, as one from a terminal does.
func makeLab(t *testing.T, hosts string) (cmd *exec.Cmd, in io.WriteCloser, out io.Reader) {
	t.Helper()
	cmd = exec.Command("make", "--no-print-directory", "lab")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "LAB_HOSTS="+hosts)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if out, err = cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, in, out
}

// gone fails the test unless a directory of the lab is.
func gone(t *testing.T, dir string) {
	t.Helper()
	if !strings.Contains(dir, "ipamlog-lab-") {
		t.Errorf("%q is no directory of a lab", dir)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left (%v)", dir, err)
	}
}

func TestMakeLab(t *testing.T) {
	cmd, in, out := makeLab(t, "2")
	words := `
set -e
pwd
hostname
on h2 hostname
lan="docker network create --ipam-driver ipamlog --subnet 10.50.0.0/16 --gateway 10.50.0.1 -d macvlan -o parent=eth0 lan"
$lan >/dev/null; on h2 $lan >/dev/null
docker run -d --network lan --ip 10.50.0.9 busybox >/dev/null
lab kill etcd1
lab kill h2
lab start h2
on h2 docker run --rm --network lan busybox ping -c1 -W5 10.50.0.9 >/dev/null
on h2 docker run --rm --network lan busybox ping -c1 -W5 10.50.0.1 >/dev/null
lab start etcd1
ipamlog holders 10.50.0.0/16 -o csv | grep -c 10.50.0.9
lab cut h2
on h2 busybox ping -c1 -W1 198.18.0.2 >/dev/null || echo cut
lab plug h2
on h2 busybox ping -c1 -W5 198.18.0.2 >/dev/null
echo piped | on h2 cat
on h9 true || on h2 sh -c 'exit 7' || exit $?
`
	if _, err := io.WriteString(in, words); err != nil {
		t.Fatal(err)
	}
	in.Close()
	said, err := io.ReadAll(out)
	if err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 2 { // as make says it
		t.Errorf("it ended with %v, and its last command had failed", err)
	}
	dir, rest, _ := strings.Cut(string(bytes.TrimSpace(said)), "\n")
	if got, want := strings.Fields(rest), "h1 h2 1 cut piped"; strings.Join(got, " ") != want {
		t.Errorf("it said %q, want %q", got, want)
	}
	gone(t, dir)
}

// TestMakeLab_told has it end while it waits for commands.
func TestMakeLab_told(t *testing.T) {
	cmd, in, out := makeLab(t, "1")
	defer in.Close()
	if _, err := io.WriteString(in, "pwd\n"); err != nil {
		t.Fatal(err)
	}
	dir, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	// Make may end first; its output is open for as long as its program lives.
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // the signal ends make
	t.Logf("it was gone after %v", time.Since(began))
	gone(t, strings.TrimSpace(dir))
}
