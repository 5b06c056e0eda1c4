// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/render"
)

// asked is what one test gives; nothing else of the machine is looked at.
type asked struct {
	args    []string
	environ []string
	file    string // of the file that --config names when not empty
	user    bool   // an ordinary one, not root
}

func (a asked) load(t testing.TB) (config.Config, error) {
	t.Helper()
	around := config.Surroundings{Environ: a.environ, Root: !a.user, Home: "/home/u", Hostname: "h1"}
	if a.file != "" {
		around.DefaultFile = filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(around.DefaultFile, []byte(a.file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.RegisterGlobal(flags, around)
	config.RegisterServe(flags, around)
	if err := flags.Parse(a.args); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(flags, around)
	cfg.File = ""
	return cfg, err
}

func defaults() config.Config {
	return config.Config{
		Global: config.Global{Prefix: "/ipamlog/v1/", DataDir: "/var/lib/ipamlog", Output: render.FormatTable},
		Serve: config.Serve{
			Socket: "/run/docker/plugins/ipamlog.sock", Host: "h1",
			Engine: "unix:///var/run/docker.sock", Listen: "127.0.0.1:9477",
			Labels:    []string{"com.docker.compose.*", "com.docker.swarm.*", "com.docker.stack.*"},
			Reconcile: "fix", ReconcileEvery: 30 * time.Second, ReconcileGrace: time.Minute,
		},
	}
}

func TestLoad(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("from a file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	type change = func(*config.Config)
	for name, test := range map[string]struct {
		asked asked
		want  change
	}{
		"nothing": {asked{}, func(*config.Config) {}},
		"default < file": {
			asked{file: "prefix: /f/\ndebug: true\ndefault-address-pool: [\"10.0.0.0/8,24\", \"base=fd00::/48,size=64\"]\ncluster-store: a:1\n"},
			func(c *config.Config) {
				c.Prefix, c.Debug, c.ClusterStore = "/f/", true, []string{"a:1"}
				c.DefaultAddressPools = []string{"10.0.0.0/8,24", "fd00::/48,64"}
			},
		},
		"file < environment": {
			asked{file: "prefix: /f/\nhost: f\n", environ: []string{"IPAMLOG_PREFIX=/e/", "IPAMLOG_DEBUG=1"}},
			func(c *config.Config) { c.Prefix, c.Host, c.Debug = "/e/", "f", true },
		},
		"environment < flag": {
			asked{
				args:    []string{"--prefix", "/x/", "--debug=false", "-o", "csv", "--default-address-pool", "10.0.0.0/8,24", "--default-address-pool", "10.0.0.0/16,28"},
				environ: []string{"IPAMLOG_PREFIX=/e/", "IPAMLOG_DEBUG=true", "IPAMLOG_OUTPUT=json", "IPAMLOG_DEFAULT_ADDRESS_POOL=192.168.0.0/16,24"},
			},
			func(c *config.Config) {
				c.Prefix, c.Output = "/x/", "csv"
				c.DefaultAddressPools = []string{"10.0.0.0/8,24", "10.0.0.0/16,28"}
			},
		},
		"an empty flag beats the environment": {
			asked{args: []string{"--cluster-store", ""}, environ: []string{"IPAMLOG_CLUSTER_STORE=a:1"}},
			func(c *config.Config) { c.ClusterStore = []string{} },
		},
		"an empty variable is none": {
			asked{environ: []string{"IPAMLOG_PREFIX=", "IPAMLOG_CLUSTER_STORE=", "IPAMLOG_DEBUG=", "NO_COLOR="}},
			func(*config.Config) {},
		},
		"a name without value in the file is none": {asked{file: "prefix:\n"}, func(*config.Config) {}},
		"an empty file":           {asked{file: "# nothing\n"}, func(*config.Config) {}},
		"one document, marked":    {asked{file: "---\nprefix: /f/\n...\n"}, func(c *config.Config) { c.Prefix = "/f/" }},
		"no file":                 {asked{args: []string{"--config", ""}, file: "prefix: /f/"}, func(*config.Config) {}},
		"NO_COLOR":                {asked{environ: []string{"NO_COLOR=0"}}, func(c *config.Config) { c.NoColor = true }},
		"NO_COLOR and a flag":     {asked{args: []string{"--no-color=false"}, environ: []string{"NO_COLOR=1"}}, func(*config.Config) {}},
		"NO_COLOR and our own":    {asked{environ: []string{"IPAMLOG_NO_COLOR=false", "NO_COLOR=1"}}, func(*config.Config) {}},
		"NO_COLOR beats the file": {asked{environ: []string{"NO_COLOR=1"}, file: "no-color: false"}, func(c *config.Config) { c.NoColor = true }},
		"lists of every script": {
			asked{environ: []string{"IPAMLOG_CLUSTER_STORE= a:1,b:2，c:3、d:4;e:5；f:6\tg:7\u3000a:1\n"}},
			func(c *config.Config) {
				c.ClusterStore = []string{"a:1", "b:2", "c:3", "d:4", "e:5", "f:6", "g:7"}
			},
		},
		"a list in the file, and repeated flags": {
			asked{file: "cluster-store:\n- a:1\n- b:2,c:3\n", args: []string{"--cluster-store", "x:1", "--cluster-store", "y:1,z:1"}},
			func(c *config.Config) { c.ClusterStore = []string{"x:1", "y:1", "z:1"} },
		},
		"off": {
			asked{args: []string{"--engine", "off", "--listen", "off"}},
			func(c *config.Config) { c.Engine, c.Listen = config.Off, config.Off },
		},
		"labels": {
			asked{file: "labels: a.*\n", args: []string{"--labels", "com.docker.compose.*, team", "--labels", "example.com/*"}},
			func(c *config.Config) { c.Labels = []string{"com.docker.compose.*", "team", "example.com/*"} },
		},
		"fewer labels": {asked{environ: []string{"IPAMLOG_LABELS=team"}}, func(c *config.Config) { c.Labels = []string{"team"} }},
		"reconciliation": {
			asked{file: "reconcile: report\n", args: []string{"--reconcile-grace", "90s"}, environ: []string{"IPAMLOG_RECONCILE_EVERY=10s"}},
			func(c *config.Config) {
				c.Reconcile, c.ReconcileEvery, c.ReconcileGrace = "report", 10*time.Second, 90*time.Second
			},
		},
		"no labels": {asked{environ: []string{"IPAMLOG_LABELS=none"}}, func(c *config.Config) { c.Labels = []string{} }},
		"TLS and tokens of the API": {
			asked{
				args:    []string{"--listen-cert", "/c", "--listen-key", "/k"},
				environ: []string{"IPAMLOG_LISTEN_CLIENT_CA=/a", "IPAMLOG_LISTEN_TOKEN_FILE=/t"},
			},
			func(c *config.Config) {
				c.ListenCert, c.ListenKey, c.ListenClientCA, c.ListenTokenFile = "/c", "/k", "/a", "/t"
			},
		},
		"engine by its path": {
			asked{args: []string{"--engine", "/run/d.sock", "--listen", ":9477"}},
			func(c *config.Config) { c.Engine, c.Listen = "unix:///run/d.sock", ":9477" },
		},
		"an ordinary user": {
			asked{user: true},
			func(c *config.Config) {
				c.DataDir, c.Socket = "/home/u/.local/state/ipamlog", "/home/u/.local/state/ipamlog/ipamlog.sock"
			},
		},
		"an ordinary user's XDG": {
			asked{user: true, environ: []string{"XDG_STATE_HOME=/s", "XDG_RUNTIME_DIR=/r"}},
			func(c *config.Config) { c.DataDir, c.Socket = "/s/ipamlog", "/r/ipamlog/ipamlog.sock" },
		},
		"an ordinary user's relative XDG is none": {
			asked{user: true, environ: []string{"XDG_STATE_HOME=s", "XDG_RUNTIME_DIR=r"}},
			func(c *config.Config) {
				c.DataDir, c.Socket = "/home/u/.local/state/ipamlog", "/home/u/.local/state/ipamlog/ipamlog.sock"
			},
		},
		"an ordinary user's socket follows the data": {
			asked{user: true, args: []string{"--data-dir", "/d"}},
			func(c *config.Config) { c.DataDir, c.Socket = "/d", "/d/ipamlog.sock" },
		},
		"root's does not": {
			asked{args: []string{"--data-dir", "/d/../e/"}},
			func(c *config.Config) { c.DataDir = "/e" },
		},
		"password from the environment": {
			asked{args: []string{"--user", "u"}, environ: []string{"IPAMLOG_PASSWORD=pw"}},
			func(c *config.Config) { c.User, c.Password = "u", "pw" },
		},
		"user:password from the environment": {
			asked{environ: []string{"IPAMLOG_USER=u:p:w"}},
			func(c *config.Config) { c.User, c.Password = "u", "p:w" },
		},
		"password from a file": {
			asked{args: []string{"--user", "u", "--password-file", secret}, environ: []string{"IPAMLOG_PASSWORD=pw"}},
			func(c *config.Config) { c.User, c.Password, c.PasswordFile = "u", "from a file", secret },
		},
		"password of a stronger layer": {
			asked{environ: []string{"IPAMLOG_PASSWORD=pw"}, file: "user: u\npassword-file: /nowhere\n"},
			func(c *config.Config) { c.User, c.Password = "u", "pw" },
		},
		"a predecessor's variables": {
			asked{environ: []string{"IPAM_CLUSTER_STORE=http://10.0.0.1:2379", "IPAM_DEBUG="}},
			func(c *config.Config) {
				c.Warnings = []string{"IPAM_CLUSTER_STORE is a predecessor's variable and does nothing here: set IPAMLOG_CLUSTER_STORE"}
			},
		},
		"unknown variables": {
			asked{environ: []string{"IPAMLOG_PREFFIX=/e/", "IPAMLOG_CLUSTERSTORE=secret", "IPAMLOGX=1", "HOME=/x"}},
			func(c *config.Config) {
				c.Warnings = []string{
					"IPAMLOG_CLUSTERSTORE is set and is no option of ipamlog, so it does nothing",
					"IPAMLOG_PREFFIX is set and is no option of ipamlog, so it does nothing",
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := test.asked.load(t)
			if err != nil {
				t.Fatal(err)
			}
			want := defaults()
			test.want(&want)
			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b config.Secret) bool { return string(a) == string(b) })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoad_refused(t *testing.T) {
	for name, test := range map[string]struct {
		asked asked
		want  string
	}{
		"unknown name in the file":  {asked{file: "prefix: /a/\nclusterstore: a:1\n"}, `"clusterstore" in FILE is no option; write one of cluster-store, prefix,`},
		"nested name in the file":   {asked{file: "serve:\n  socket: /x\n"}, `"serve.socket" in FILE is no option`},
		"nested below a known name": {asked{file: "socket:\n  path: /x\n"}, `"socket.path" in FILE is no option`},
		"config in the file":        {asked{file: "config: /x\n"}, `"config" in FILE is no option`},
		"no YAML":                   {asked{file: "prefix: [\n"}, `the configuration file FILE is not a list of NAME: VALUE in YAML; mend it`},
		"a second document":         {asked{file: "prefix: /a/\n---\nprefix: /b/\n"}, `the configuration file FILE has a second list behind a line ---, which nothing would read; leave one`},
		"a broken second document":  {asked{file: "prefix: /a/\n---\nprefix: [\n"}, `mend it: yaml: line 3`},
		"a list":                    {asked{file: "- a\n"}, `the configuration file FILE is not a list of NAME: VALUE in YAML; mend it: yaml: line 1: something else is there`},
		"a word":                    {asked{file: "a\n"}, `mend it: yaml: line 1: something else is there`},
		"more than anybody writes":  {asked{file: strings.Repeat("# no end\n", 200_000)}, `the configuration file cannot be read; mend it or name another with --config: FILE: it has more than 1048576 bytes`},
		"twice":                     {asked{file: "prefix: /a/\nprefix: /b/\n"}, `already defined`},
		"no such file":              {asked{args: []string{"--config", "/nowhere/c.yaml"}}, `cannot be read; mend it or name another with --config: open /nowhere/c.yaml`},
		"no such file by variable":  {asked{environ: []string{"IPAMLOG_CONFIG=/nowhere/c.yaml"}}, `open /nowhere/c.yaml`},
		"a number for a text":       {asked{file: "password: 0123\n"}, `password in FILE must be text, put quotes around it`},
		"numbers in a list":         {asked{file: "default-address-pool: [10.0.0.0/8,24]\n"}, `default-address-pool in FILE must be a list of texts, put quotes around each`},
		"no truth":                  {asked{environ: []string{"IPAMLOG_DEBUG=maybe"}}, `IPAMLOG_DEBUG must be true or false`},
		"no truth in the file":      {asked{file: "debug: 3"}, `debug in FILE must be true or false`},
		"format":                    {asked{args: []string{"-o", "yaml"}}, `--output "yaml" is not a format, choose one of table, json, jsonl, csv`},
		"empty prefix":              {asked{args: []string{"--prefix", ""}}, `--prefix is empty, name a place such as /ipamlog/v1/`},
		"white space in a prefix":   {asked{environ: []string{"IPAMLOG_PREFIX=/a b/"}}, `IPAMLOG_PREFIX "/a b/" has white space`},
		"host":                      {asked{args: []string{"--host", "a/b"}}, `--host "a/b" cannot be a host's name`},
		"engine":                    {asked{args: []string{"--engine", "docker"}}, `--engine "docker" cannot be Docker's API, write`},
		"listen":                    {asked{args: []string{"--listen", "9477"}}, `--listen "9477" cannot be listened on, write host:port`},
		"listen's port":             {asked{args: []string{"--listen", ":65536"}}, `--listen ":65536" cannot be`},
		"pool":                      {asked{args: []string{"--default-address-pool", "10.0.0.0/8"}}, `--default-address-pool "10.0.0.0/8" has no size, write BASE,SIZE such as 10.0.0.0/8,24`},
		"reconciliation":            {asked{args: []string{"--reconcile", "yes"}}, `--reconcile "yes" is no way to reconcile, write fix, report or off`},
		"no grace":                  {asked{args: []string{"--reconcile-grace", "0s"}}, `--reconcile-grace "0s" is no time, write one such as 30s or 2m`},
		"label":                     {asked{args: []string{"--labels", "[a"}}, `--labels "[a" is no pattern of a label's name, write one such as com.docker.compose.*`},
		"no label, and nothing":     {asked{args: []string{"--labels", ""}}, `--labels is empty, write patterns such as com.docker.compose.*, or none`},
		"cert alone":                {asked{args: []string{"--cert", "/c"}}, `give both --cert and --key`},
		"key alone":                 {asked{environ: []string{"IPAMLOG_KEY=/k"}}, `give both --cert and --key`},
		"listen-cert alone":         {asked{args: []string{"--listen-cert", "/c"}}, `give both --listen-cert and --listen-key`},
		"listen-key alone":          {asked{environ: []string{"IPAMLOG_LISTEN_KEY=/k"}}, `give both --listen-cert and --listen-key`},
		"client authority alone":    {asked{args: []string{"--listen-client-ca", "/a"}}, `give --listen-cert and --listen-key beside --listen-client-ca`},
		"password as a flag":        {asked{args: []string{"--user", "u", "--password", "hunter2"}}, `a password on the command line is seen by everyone on this machine; set IPAMLOG_PASSWORD, or name a file with --password-file`},
		"password in --user":        {asked{args: []string{"--user", "u:hunter2"}}, `a password on the command line is seen`},
		"user alone":                {asked{args: []string{"--user", "u"}}, `etcd's user "u" needs a password; set IPAMLOG_PASSWORD`},
		"password alone":            {asked{environ: []string{"IPAMLOG_PASSWORD=hunter2"}}, `there is a password for etcd and no user; name the user with --user`},
		"password without name":     {asked{environ: []string{"IPAMLOG_USER=:hunter2"}}, `IPAMLOG_USER has no name before the colon`},
		"two passwords":             {asked{environ: []string{"IPAMLOG_USER=u", "IPAMLOG_PASSWORD=hunter2", "IPAMLOG_PASSWORD_FILE=/p"}}, `IPAMLOG_PASSWORD and IPAMLOG_PASSWORD_FILE are both given; leave one out`},
		"no password file":          {asked{args: []string{"--user", "u", "--password-file", "/nowhere/p"}}, `the password file cannot be read; mend it or name another with --password-file: open /nowhere/p`},
		"empty password file":       {asked{args: []string{"--user", "u", "--password-file", os.DevNull}}, `the password file ` + os.DevNull + ` is empty`},
		"endless password file":     {asked{args: []string{"--user", "u", "--password-file", "/dev/zero"}}, `the password file cannot be read; mend it or name another with --password-file: /dev/zero: it has more than 1048576 bytes`},
		"no data directory":         {asked{args: []string{"--data-dir", ""}}, `there is no directory to keep data in; name one with --data-dir`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := test.asked.load(t)
			if err == nil {
				t.Fatalf("taken as %+v", cfg)
			}
			before, after, _ := strings.Cut(test.want, "FILE")
			if _, rest, ok := strings.Cut(err.Error(), before); !ok || !strings.Contains(rest, after) {
				t.Errorf("got %q, want %q", err, test.want)
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n") {
				t.Errorf("error is not fit to be shown: %q", err)
			}
		})
	}
}

func TestLoad_clusterStore(t *testing.T) {
	for address, want := range map[string]string{
		"10.0.0.1:2379":                 "10.0.0.1:2379",
		"etcd-1.example.com:2379":       "etcd-1.example.com:2379",
		"etcd_1:2379":                   "etcd_1:2379",
		"http://127.0.0.1:2379/":        "http://127.0.0.1:2379",
		"https://e.example.com.:2379":   "https://e.example.com.:2379",
		"[fd00::1]:2379":                "[fd00::1]:2379",
		"https://[fe80::1%eth0]:2379":   "https://[fe80::1%eth0]:2379",
		"unix:///run/etcd.sock":         "unix:///run/etcd.sock",
		"unix://localhost:2379":         "unix://localhost:2379",
		"etcd":                          "",
		"etcd:":                         "",
		":2379":                         "",
		"etcd:0":                        "",
		"etcd:65536":                    "",
		"etcd:x":                        "",
		"fd00::1:2379":                  "",
		"10.0.0.256:2379":               "",
		"10.0.0:2379":                   "",
		"-etcd:2379":                    "",
		"etcd..a:2379":                  "",
		"etcd:2379/path":                "",
		"http://etcd:2379/v3":           "",
		"ftp://etcd:2379":               "",
		"http://etcd":                   "",
		"unix://":                       "",
		"http://":                       "",
		`"etcd:2379"`:                   "",
		"http://root:hunter2@etcd:2379": "",
		"root:hunter2@etcd:2379":        "",
		",":                             "",
	} {
		cfg, err := asked{environ: []string{"IPAMLOG_CLUSTER_STORE=" + address}}.load(t)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q: taken as %q", address, cfg.ClusterStore)
		case want == "" && (!strings.HasPrefix(err.Error(), "IPAMLOG_CLUSTER_STORE ") || strings.Contains(err.Error(), "hunter2")):
			t.Errorf("%q: %v", address, err)
		case want == "" && !strings.Contains(address, "hunter2") && !strings.Contains(err.Error(), fmt.Sprintf("%q", address)):
			t.Errorf("%q is not named: %v", address, err)
		case want != "" && err != nil:
			t.Errorf("%q: %v", address, err)
		case want != "" && !cmp.Equal([]string{want}, cfg.ClusterStore):
			t.Errorf("%q: got %q", address, cfg.ClusterStore)
		}
	}
}

// Whatever the prefix, it begins and ends with one slash and is itself when
// given again.
func TestLoad_prefix(t *testing.T) {
	for given, want := range map[string]string{"a": "/a/", "/a/b": "/a/b/", "//a//b//": "/a/b/", "/": "/"} {
		cfg, err := asked{args: []string{"--prefix", given}}.load(t)
		if err != nil || cfg.Prefix != want {
			t.Errorf("%q: got %q, %v", given, cfg.Prefix, err)
		}
	}
	rapid.Check(t, func(r *rapid.T) {
		cfg, err := asked{args: []string{"--prefix", rapid.StringMatching(`[/a-z.]{1,9}`).Draw(r, "prefix")}}.load(t)
		if err != nil {
			r.Fatal(err)
		}
		p := cfg.Prefix
		if !strings.HasPrefix(p, "/") || !strings.HasSuffix(p, "/") || strings.Contains(p, "//") {
			r.Fatalf("got %q", p)
		}
		again, err := asked{args: []string{"--prefix", p}}.load(t)
		if err != nil || again.Prefix != p {
			r.Fatalf("%q became %q, %v", p, again.Prefix, err)
		}
	})
}

func TestParseAddressPool(t *testing.T) {
	for given, want := range map[string]string{
		"10.0.0.0/8,24":              "10.0.0.0/8 24",
		"10.0.0.0/8, 8":              "10.0.0.0/8 8",
		"base=fd00:1::/48,size=64":   "fd00:1::/48 64",
		"10.0.0.0/8,32":              "10.0.0.0/8 32",
		"10.0.0.0/8,33":              "",
		"10.0.0.0/8,7":               "",
		"10.0.0.1/8,24":              "",
		"10.0.0.0/8":                 "",
		"10.0.0.0,24":                "",
		"10.0.0.0/8,x":               "",
		"10.0.0.0/8,24,3":            "",
		"":                           "",
		"size=24,base=10.0.0.0/8":    "",
		"::ffff:10.0.0.0/104,120,  ": "",
	} {
		base, size, err := config.ParseAddressPool(given)
		got := fmt.Sprint(base, " ", size)
		if err != nil {
			got = ""
		}
		if got != want {
			t.Errorf("%q: got %q, %v; want %q", given, got, err, want)
		}
	}
}

// A command may have a flag that shares the name of an option.
func TestLoad_foreignFlags(t *testing.T) {
	around := config.Surroundings{Root: true, Hostname: "h1"}
	flags := pflag.NewFlagSet("reclaim", pflag.ContinueOnError)
	config.RegisterGlobal(flags, around)
	flags.String("host", "", "whose addresses to reclaim")
	flags.String("at", "", "")
	if err := flags.Parse([]string{"--host", "dead/1", "--at", "now"}); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(flags, around)
	if err != nil || cfg.Host != "h1" {
		t.Errorf("got %q, %v", cfg.Host, err)
	}
}

func TestSecret(t *testing.T) {
	cfg := config.Config{Global: config.Global{User: "u", Password: "hunter2"}}
	encoded, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		string(encoded), fmt.Sprint(cfg), fmt.Sprintf("%v", cfg), fmt.Sprintf("%+v", cfg), fmt.Sprintf("%#v", cfg),
		fmt.Sprintf("%s %q %x %d %v", cfg.Password, cfg.Password, cfg.Password, cfg.Password, &cfg.Password), cfg.Password.String(),
	} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) || !strings.Contains(text, "***") {
			t.Errorf("shown as %s", text)
		}
	}
	if string(cfg.Password) != "hunter2" || config.Secret("").String() != "" {
		t.Error("the secret itself is changed")
	}
}

// The promised defaults stand in the help of root.
func TestRegister_help(t *testing.T) {
	around := config.Process()
	around.Root = true
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.RegisterGlobal(flags, around)
	config.RegisterServe(flags, around)
	help := flags.FlagUsages()
	for _, want := range []string{
		"--cluster-store", "/ipamlog/v1/", "/var/lib/ipamlog", "--cacert", "--cert", "--key", "--user", "/etc/ipamlog/config.yaml",
		"-o, --output", "--debug", "--no-color", "/run/docker/plugins/ipamlog.sock", "unix:///var/run/docker.sock", "127.0.0.1:9477", "IPAMLOG_DATA_DIR",
	} {
		if !strings.Contains(help, want) {
			t.Errorf("help has no %s:\n%s", want, help)
		}
	}
	if strings.Contains(help, "--password ") {
		t.Errorf("help offers --password:\n%s", help)
	}
}

// A flag that is in no table of options would be lost in the environment and in
// the file.
func TestEveryFlagIsAnOption(t *testing.T) {
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	around := config.Surroundings{Root: true, Home: "/root", Hostname: "h1"}
	config.RegisterGlobal(flags, around)
	config.RegisterServe(flags, around)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "config" || f.Name == "password" {
			return
		}
		value := map[string]string{"output": "json", "debug": "true", "no-color": "true", "default-address-pool": "10.0.0.0/8,24", "cluster-store": "h:1", "engine": "off", "listen": "off"}[f.Name]
		if value == "" {
			value = "x"
		}
		around.Environ = []string{"IPAMLOG_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")) + "=" + value}
		cfg, err := config.Load(flags, around)
		if err != nil && strings.Contains(err.Error(), "no option") || len(cfg.Warnings) > 0 {
			t.Errorf("--%s from the environment: %v %v", f.Name, cfg.Warnings, err)
		}
	})
}
