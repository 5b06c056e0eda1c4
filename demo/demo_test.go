// SPDX-License-Identifier: Apache-2.0

package demo_test

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program is ipamlog, built once for all tests here.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "demo-test-")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "ipamlog")
	build := exec.Command("go", "build", "-o", program, "github.com/ipamlog/ipamlog")
	build.Stderr = os.Stderr
	status := 1
	if build.Run() == nil {
		status = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(status)
}

// demonstration is a demo about to start, in a directory where it is to leave
// nothing.
func demonstration(t *testing.T) (cmd *exec.Cmd, temporary string) {
	t.Helper()
	temporary = t.TempDir()
	cmd = exec.CommandContext(t.Context(), program, "demo")
	// What the user has set is nothing to the demo: these would break it.
	cmd.Env = append(os.Environ(), "TMPDIR="+temporary,
		"IPAMLOG_CLUSTER_STORE=192.0.2.1:2379", "IPAMLOG_PREFIX=/elsewhere/", "IPAMLOG_OUTPUT=csv")
	return cmd, temporary
}

func TestDemoTellsTheStory(t *testing.T) {
	t.Parallel()
	cmd, temporary := demonstration(t)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begun := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, stdout.String(), stderr.String())
	}
	t.Logf("it took %s", time.Since(begun))
	if stderr.Len() > 0 {
		t.Errorf("on standard error:\n%s", stderr.String())
	}
	rest := stdout.String()
	for _, expected := range []string{
		`docker network create .* web +gateway 10\.50\.0\.1/24`,
		`docker run --network web --name shop-2 .* 10\.50\.0\.3/24`,
		`docker stop shop-2 +10\.50\.0\.3 is given back`,
		`--ip 10\.50\.0\.3 --name batch .* 10\.50\.0\.3/24`,
		`docker start shop-2 +10\.50\.0\.5/24`,
		`--name pg-6 .* refused:\n +No available addresses`,
		`--name pg-6 .* 10\.60\.0\.3/29`,
		`\$ ipamlog pools\n(.*\n)+?db .* 6 +6 +0 `,
		`\$ ipamlog holders web\n(.*\n)+?10\.50\.0\.5 .* shop-2 `,
		`\$ ipamlog who 10\.50\.0\.3\n.*\n10\.50\.0\.3 .* batch `,
		`\$ ipamlog who 10\.50\.0\.3 --at '\d{4}-\d\d-\d\d \d\d:\d\d:\d\d'\nat .*\n.*\n10\.50\.0\.3 .* shop-2 .*T.*T.*\n`,
		`\$ ipamlog who 10\.50\.0\.3 --at @\d+\nat .*\n.*\n10\.50\.0\.3 .* shop-2 .*T.*T.*\n`,
		`\$ ipamlog who 10\.50\.0\.3 --at @\d+\nat .*\n.*\nbefore .* shop-2 .*\nafter .* batch .*\nipamlog: nobody held .*\n\(exit status 3\)\n`,
		`\$ ipamlog history 10\.50\.0\.3\n.*\n.* shop-2 .*\n.* batch .*\n`,
		`\$ ipamlog history shop-2\n.*\n10\.50\.0\.3 .*\n10\.50\.0\.5 .*\n`,
		`\$ ipamlog tail db\n(.*\n)+?.* pool\.exhausted .*\n.* address\.released .*\n.* address\.allocated .* pg-6\n`,
		`is removed`,
	} {
		at := regexp.MustCompile(expected).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("no match for %s in what was left:\n%s", expected, rest)
		}
		rest = rest[at[1]:]
	}
	leavesNothing(t, temporary)
}

func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"A daemon starts", "Two networks", "$ ipamlog holders"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			cmd, temporary := demonstration(t)
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			reached := false
			for lines := bufio.NewScanner(stdout); lines.Scan(); {
				if !reached && strings.Contains(lines.Text(), at) {
					reached = true
					if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
						t.Error(err)
					}
				}
			}
			_ = cmd.Wait() // its status is looked at below
			if !reached || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(stderr.String(), "interrupted") {
				t.Errorf("reached %t, %s, said %q", reached, cmd.ProcessState, stderr.String())
			}
			leavesNothing(t, temporary)
		})
	}
}

// leavesNothing looks for files and processes of a demo that is over.
func leavesNothing(t *testing.T, temporary string) {
	t.Helper()
	left, err := os.ReadDir(temporary)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if line, err := os.ReadFile(p); err == nil && bytes.Contains(line, []byte(temporary)) {
			t.Errorf("a process is left behind (%s): %q", p, line)
		}
	}
}
