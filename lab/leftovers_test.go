// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ipamlog/ipamlog/lab"
)

// traces is what may be left of a host: what to look for once it is gone.
type traces struct {
	lab        string // name of the lab's directory and cgroups, found in command lines and mounts
	namespaces []string
}

// busyHost makes a host with an engine and a running container, so that there
// is something to leave behind.
func busyHost(t *testing.T) traces {
	h := lab.New(t).Host("busy")
	lab.StartEngines(t, h)
	h.MustDocker(t, "network", "create", "--subnet", "10.1.0.0/24", "n")
	h.MustDocker(t, "run", "-d", "--name", "c1", "--network", "n", lab.Image)
	links := []string{"/proc/1/ns/net", "/proc/1/ns/mnt", "/proc/1/ns/pid", "/proc/1/ns/uts", "/proc/1/ns/ipc"}
	tr := traces{
		lab:        filepath.Base(filepath.Dir(filepath.Dir(h.Dir()))),
		namespaces: strings.Fields(h.MustExec(t, "readlink", links...)),
	}
	if found := tr.living(t); len(found) < 3 {
		t.Fatalf("of a living host only %q is found: the search is broken", found)
	}
	if found := tr.lying(t); len(found) < 2 {
		t.Fatalf("of a living host only %q is found: the search is broken", found)
	}
	return tr
}

// living finds the processes, mounts and namespaces that are left.
func (tr traces) living(t *testing.T) (found []string) {
	t.Helper()
	for _, pattern := range []string{"/proc/[0-9]*/cmdline", "/proc/[0-9]*/mountinfo"} {
		for _, path := range glob(t, pattern) {
			if text, _ := os.ReadFile(path); strings.Contains(string(text), tr.lab) {
				found = append(found, path)
			}
		}
	}
	for _, pattern := range []string{"/proc/[0-9]*/task/*/ns/*", "/proc/self/fd/*"} {
		for _, path := range glob(t, pattern) {
			if link, _ := os.Readlink(path); slices.Contains(tr.namespaces, link) {
				found = append(found, path+" "+link)
			}
		}
	}
	return found
}

// lying finds the directories and cgroups that are left.
func (tr traces) lying(t *testing.T) []string {
	t.Helper()
	return slices.Concat(
		glob(t, filepath.Join(os.TempDir(), tr.lab)),
		glob(t, filepath.Join("/sys/fs/cgroup", tr.lab)),
		glob(t, filepath.Join("/sys/fs/cgroup/*", tr.lab)),
	)
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// expectNone gives the kernel, which takes namespaces down in its own time, a
// while to do so.
func expectNone(t *testing.T, what string, find func(*testing.T) []string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		found := find(t)
		switch {
		case len(found) == 0:
			return
		case time.Now().After(deadline):
			t.Fatalf("%s left: %q", what, found)
		}
	}
}

func links(t *testing.T) []string {
	t.Helper()
	return glob(t, "/sys/class/net/*")
}

func TestNothingIsLeft(t *testing.T) {
	before := links(t)
	var tr traces
	t.Run("inside", func(t *testing.T) { tr = busyHost(t) })
	if t.Failed() {
		return
	}
	expectNone(t, "alive is", tr.living)
	expectNone(t, "on disk is", tr.lying)
	if d := cmp.Diff(before, links(t)); d != "" {
		t.Errorf("links of the machine (-before +after):\n%s", d)
	}
}

// TestNothingSurvivesKill runs itself in a second process, the victim, which is
// killed while its engine and container run.
func TestNothingSurvivesKill(t *testing.T) {
	const victim = "IPAMLOG_LAB_VICTIM"
	if os.Getenv(victim) != "" {
		tr := busyHost(t)
		os.Stdout.WriteString("\ntraces " + tr.lab + " " + strings.Join(tr.namespaces, " ") + "\n")
		select {}
	}

	cmd := exec.Command(os.Args[0], "-test.run=^TestNothingSurvivesKill$", "-test.v")
	cmd.Env = append(os.Environ(), victim+"=1")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var tr traces
	var said strings.Builder
	for s := bufio.NewScanner(stdout); tr.lab == "" && s.Scan(); {
		said.WriteString(s.Text() + "\n")
		if words := strings.Fields(s.Text()); len(words) > 2 && words[0] == "traces" {
			tr.lab, tr.namespaces = words[1], words[2:]
		}
	}
	cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
	if tr.lab == "" {
		t.Fatalf("the victim never had a host:\n%s", said.String())
	}

	expectNone(t, "alive is", tr.living)
	lab.New(t) // clears what the kernel does not
	expectNone(t, "on disk is", tr.lying)
}
