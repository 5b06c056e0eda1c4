// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/pflag"

	"github.com/ipamlog/ipamlog/config"
)

// mostExposed is ten times the exposure level up to which the unit is well. What it
// is now stands in docs/security.md.
const mostExposed = "25"

// The sandbox of the unit is as tight as it was; what systemd thinks of it is said
// by
//
//	systemd-analyze security --offline=true packaging/ipamlog.service
func TestUnit_exposure(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold="+mostExposed, "ipamlog.service").CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
}

// systemd understands every word of the units.
func TestUnit_words(t *testing.T) {
	program, err := os.Executable() // anything that can be run and is there
	if err != nil {
		t.Fatal(err)
	}
	verify := []string{"verify", "--man=no", "--recursive-errors=no"}
	dir := t.TempDir()
	for _, name := range []string{"ipamlog.service", "ipamlog.socket"} {
		unit, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(unit), "/usr/bin/ipamlog", program)
		if name == "ipamlog.service" && text == string(unit) {
			t.Fatal("the unit does not run /usr/bin/ipamlog")
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		verify = append(verify, path)
	}
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", verify...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
}

// A socket that systemd has made is served, and stays when the daemon ends.
func TestSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "s") // whose path leaves room for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program, socket := filepath.Join(dir, "ipamlog"), filepath.Join(dir, "s")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "..").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	activate := exec.CommandContext(ctx, "systemd-socket-activate", "--listen="+socket,
		program, "serve", "--socket", socket, "--data-dir", filepath.Join(dir, "d"), "--listen", "off", "--engine", "off", "--host", "h1")
	activate.Cancel = func() error { return activate.Process.Signal(os.Interrupt) } // it has become the daemon by then
	var said strings.Builder
	activate.Stderr = &said
	if err := activate.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("systemd-socket-activate made no socket")
		}
	}
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	answer, err := client.Post("http://plugin/Plugin.Activate", "application/json", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); err != nil || !strings.Contains(string(body), "IpamDriver") {
		t.Errorf("the daemon answers %s, %v", body, err)
	}
	end()
	if err := activate.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("the daemon ended with %v: %s", err, &said)
	}
	if _, err := os.Stat(socket); err != nil {
		t.Errorf("systemd's socket after the daemon's end: %v", err)
	}
}

// What the installed configuration file says is nothing until an operator takes the
// comment signs away, and then something that the program takes.
func TestConfig(t *testing.T) {
	text, err := os.ReadFile("config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func(text string) config.Config {
		t.Helper()
		around := config.Surroundings{Root: true, Hostname: "h1", DefaultFile: filepath.Join(dir, "config.yaml")}
		if err := os.WriteFile(around.DefaultFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
		config.RegisterGlobal(flags, around)
		config.RegisterServe(flags, around)
		cfg, err := config.Load(flags, around)
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	if cfg := load(string(text)); len(cfg.ClusterStore) != 0 {
		t.Errorf("as it is installed it sets %+v", cfg)
	}
	var open strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(string(text), "/etc/ipamlog/password", password)) {
		// A sentence has one space before it, an option none and its list two.
		if option, ok := strings.CutPrefix(line, "#"); ok && (option[0] != ' ' || strings.HasPrefix(option, "  ")) {
			line = option
		}
		open.WriteString(line)
	}
	if cfg := load(open.String()); len(cfg.ClusterStore) != 3 || cfg.User != "ipamlog-daemon" || len(cfg.DefaultAddressPools) != 1 {
		t.Errorf("with its options it sets %+v", cfg)
	}
}
