// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// option is one thing that can be asked for, by its name as a flag and in the
// file; the environment's name follows from it.
type option struct {
	name string
	// read makes the option's value of what a flag, a variable or the file
	// holds. Its error reads on after the place where that was given.
	read func(given any) (any, error)
}

func (o option) variable() string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(o.name, "-", "_"))
}

const (
	variablePrefix = "IPAMLOG_"
	configFlag     = "config"
	configVariable = variablePrefix + "CONFIG"
)

// options are all there are, in the order in which they are listed.
var options = []option{
	{"cluster-store", readEndpoints},
	{"prefix", as(readPrefix)},
	{"data-dir", as(readPath)},
	{"cacert", as(readPath)},
	{"cert", as(readPath)},
	{"key", as(readPath)},
	{"user", as(readUser)},
	{"password", as(readPassword)},
	{"password-file", as(readPath)},
	{"archive", as(ParsePlace)},
	{"archive-key", as(readPath)},
	{"output", as(readOutput)},
	{"debug", readBool},
	{"no-color", readBool},
	{"socket", as(readPath)},
	{"socket-group", as(readText)},
	{"host", as(readHost)},
	{"engine", as(readEngine)},
	{"listen", as(readListen)},
	{"listen-cert", as(readPath)},
	{"listen-key", as(readPath)},
	{"listen-client-ca", as(readPath)},
	{"listen-token-file", as(readPath)},
	{"default-address-pool", readAddressPools},
	{"labels", readLabels},
	{"reconcile", as(readReconcile)},
	{"reconcile-every", as(readDuration)},
	{"reconcile-grace", as(readDuration)},
	{"archive-after", as(readAge)},
	{"archive-to", as(ParsePlace)},
	{"managed", readBool},
}

func optionNamed(name string) (option, bool) {
	i := slices.IndexFunc(options, func(o option) bool { return o.name == name })
	if i < 0 {
		return option{}, false
	}
	return options[i], true
}

// RegisterGlobal adds the options of all commands to flags. The defaults they
// show are those of the surroundings; the man pages show root's.
func RegisterGlobal(flags *pflag.FlagSet, around Surroundings) {
	defaults := around.Defaults()
	r := registry{flags}
	flags.String(configFlag, "", "configuration `file`, with these options' names (default "+around.DefaultFile+" where it exists) [$"+configVariable+"]")
	r.list("cluster-store", "etcd `endpoints`, separated by commas; none is the embedded etcd of this host")
	r.text("prefix", "", defaults.Prefix, "where all `keys` live in etcd")
	r.text("data-dir", "", defaults.DataDir, "`directory` of the embedded etcd, the release spool and the index")
	r.text("cacert", "", "", "PEM `file` with the authority that signed etcd's certificates")
	r.text("cert", "", "", "PEM `file` with the client certificate for etcd")
	r.text("key", "", "", "PEM `file` with the client certificate's key")
	r.text("user", "", "", "user `name` for etcd; the password is read from $IPAMLOG_PASSWORD or --password-file")
	r.text("password-file", "", "", "`file` with the user's password")
	r.text("archive", "", "", "`place` where the archived part of the log is read: a directory or s3://BUCKET/PREFIX (default where it was put)")
	r.text("archive-key", "", "", "`file` with the key that the archive is signed with, made where there is none (default archive.key in the data directory)")
	r.text("output", "o", string(defaults.Output), "`format` in which lists are printed: table, json, jsonl or csv")
	r.flag("debug", "log more")
	r.flag("no-color", "never print in colour [$NO_COLOR]")

	// As etcdctl has it: known only so that it is refused with an explanation.
	r.text("password", "", "", "refused: see --password-file")
	flags.Lookup("password").Hidden = true
}

// RegisterServe adds the daemon's own options to flags.
func RegisterServe(flags *pflag.FlagSet, around Surroundings) {
	defaults := around.Defaults()
	r := registry{flags}
	r.text("socket", "", defaults.Socket, "`socket` on which Docker asks for addresses")
	r.text("socket-group", "", "", "`group` that may use the socket beside its owner")
	r.text("host", "", "", "this host's `name` in the log (default the host name)")
	r.text("engine", "", defaults.Engine, "`address` of Docker's API, or off to do without")
	r.text("listen", "", defaults.Listen, "`address` for metrics, health and the API, or off")
	r.text("listen-cert", "", "", "PEM `file` with the certificate of --listen, which then speaks TLS alone")
	r.text("listen-key", "", "", "PEM `file` with that certificate's key")
	r.text("listen-client-ca", "", "", "PEM `file` with the authority whose client certificates open the API")
	r.text("listen-token-file", "", "", "`file` with the tokens that open the API, one a line")
	r.flag("managed", "this daemon is a managed plugin, which Swarm uses on each of its nodes")
	r.list("default-address-pool", "`BASE,SIZE` that pools without a subnet are cut from, repeatable (default 10.0.0.0/8,24 and a unique local /48 by /64)")
	r.list("labels", "`patterns` of the container labels that are noted with an address, separated by commas, or none (default "+strings.Join(defaults.Labels, ",")+")")
	r.text("reconcile", "", defaults.Reconcile, "what to do about `addresses` that the log and the engine disagree on: fix, report or off")
	r.text("reconcile-every", "", defaults.ReconcileEvery.String(), "`time` between two comparisons of the engine with the log")
	r.text("archive-after", "", "", "`age`, such as 90d, at which the log moves to --archive-to")
	r.text("archive-to", "", "", "`place` for the old part of the log: a directory, or s3://BUCKET/PREFIX")
	r.text("reconcile-grace", "", defaults.ReconcileGrace.String(), "`time` between the two that must agree before anything is given back")
}

// registry adds options to a set of flags, each marked as ours: a command may
// have a flag of its own that happens to share an option's name.
type registry struct{ flags *pflag.FlagSet }

const ours = "ipamlog_option"

func (r registry) text(name, short, value, usage string) {
	r.flags.StringP(name, short, value, r.usage(name, usage))
	r.mark(name)
}

func (r registry) list(name, usage string) {
	r.flags.StringArray(name, nil, r.usage(name, usage))
	r.mark(name)
}

func (r registry) flag(name, usage string) {
	r.flags.Bool(name, false, r.usage(name, usage))
	r.mark(name)
}

func (registry) usage(name, usage string) string {
	return usage + " [$" + option{name: name}.variable() + "]"
}

func (r registry) mark(name string) {
	flag := r.flags.Lookup(name)
	flag.Annotations = map[string][]string{ours: {name}}
}

func isOurs(flag *pflag.Flag) bool { return flag.Annotations[ours] != nil }
