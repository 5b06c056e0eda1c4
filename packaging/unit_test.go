// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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

// systemd understands every word of the unit.
func TestUnit_words(t *testing.T) {
	unit, err := os.ReadFile("ipamlog.service")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable() // anything that can be run and is there
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(unit), "/usr/bin/ipamlog", program)
	if text == string(unit) {
		t.Fatal("the unit does not run /usr/bin/ipamlog")
	}
	path := filepath.Join(t.TempDir(), "ipamlog.service")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", "--recursive-errors=no", path).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
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
