// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/ipamlog/ipamlog/config"
)

// FuzzLoad: whatever stands in the file, the environment and the flags (the latter a line
// each), what comes of it is a configuration that keeps its promises, or one sentence.
func FuzzLoad(f *testing.F) {
	for _, seed := range [][3]string{
		{"", "", ""},
		{"prefix: /f/\ndebug: true\ndefault-address-pool: [\"10.0.0.0/8,24\", \"base=fd00::/48,size=64\"]\ncluster-store: a:1\n", "", ""},
		{"cluster-store: [\"https://10.0.0.1:2379\", b:2]\nuser: u\npassword: geheim\n", "IPAMLOG_DEBUG=1\nNO_COLOR=1", "--no-color=false"},
		{"labels: []\nreconcile-every: 1h\n", "IPAMLOG_LABELS=com.x.*,y\nIPAMLOG_RECONCILE_GRACE=5s", "--reconcile=report\n--output\njson"},
		{"cert: /c\n", "IPAMLOG_KEY=/k\nIPAMLOG_CACERT=/ca", "--listen=unix:///s\n--engine=off"},
		{"a: {b: 1}\n", "IPAMLOG_NONE=1\nIPAM_DEBUG=1", "--reconcile-every=-1s"},
		{"debug: [yes]\nprefix: 7\n", "IPAMLOG_PASSWORD=geheim", "--default-address-pool=10.0.0.0/8,99"},
		{"&a [*a]", "IPAMLOG_DATA_DIR=\nIPAMLOG_HOST=a\tb", "--cluster-store=etcd://u:geheim@h"},
		{"\xff\xfe", "=", "--"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, file, environ, args string) {
		for _, text := range []string{file, strings.ToLower(environ), args} {
			if strings.Contains(text, "config") || strings.Contains(text, "password-file") || strings.Contains(text, "password_file") {
				return // no file of this machine is read
			}
		}
		around := config.Surroundings{
			Environ: strings.Split(environ, "\n"), Root: true, Hostname: "h1", DefaultFile: filepath.Join(dir, "config.yaml"),
		}
		if err := os.WriteFile(around.DefaultFile, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		load := func() (cfg config.Config, parsed bool, err error) {
			flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
			flags.Usage = func() {}
			config.RegisterGlobal(flags, around)
			config.RegisterServe(flags, around)
			if args != "" {
				if err := flags.Parse(strings.Split(args, "\n")); err != nil {
					return cfg, false, err
				}
			}
			cfg, err = config.Load(flags, around)
			return cfg, true, err
		}
		cfg, parsed, err := load()
		if !parsed {
			return
		}
		if err != nil {
			if said := err.Error(); said == "" || strings.ContainsFunc(said, unicode.IsControl) {
				t.Errorf("%q is no sentence", said)
			}
			return
		}
		if again, _, err := load(); err != nil || cmp.Diff(cfg, again) != "" {
			t.Errorf("read again it is another (%v):\n%s", err, cmp.Diff(cfg, again))
		}
		for _, text := range cfg.DefaultAddressPools {
			if _, _, err := config.ParseAddressPool(text); err != nil {
				t.Errorf("%q was accepted: %v", text, err)
			}
		}
		if cfg.ReconcileEvery <= 0 || cfg.ReconcileGrace <= 0 {
			t.Errorf("times that do not go by: %v %v", cfg.ReconcileEvery, cfg.ReconcileGrace)
		}
		// What is too short may stand there for another reason.
		if p := string(cfg.Password); len(p) > 40 && strings.Contains(fmt.Sprintf("%+v", cfg), p) {
			t.Errorf("the password is printed: %+v", cfg)
		}
	})
}
