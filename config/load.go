// SPDX-License-Identifier: Apache-2.0

package config

import (
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// Load finds the value of every option. The flags must have been parsed; those
// that were not registered by this package are left alone.
//
// An error is one sentence about what was given wrongly, and is to be treated
// as wrong usage.
func Load(flags *pflag.FlagSet, around Surroundings) (Config, error) {
	path, err := configFile(flags, around)
	if err != nil {
		return Config{}, err
	}
	unknown := []string{}
	merged := koanf.New(keyDelimiter)
	// What is loaded later beats what was loaded before.
	for _, layer := range []layer{fileLayer(path), environmentLayer(around, &unknown), flagLayer(flags)} {
		values, err := layer.read()
		if err != nil {
			return Config{}, err
		}
		// A password beats where a lesser layer would have it read from.
		if values["password"] != nil || values["password-file"] != nil {
			merged.Delete("password")
			merged.Delete("password-file")
		}
		if err := merged.Load(confmap.Provider(values, keyDelimiter), nil); err != nil {
			return Config{}, errors.Wrap(err, "merge configuration")
		}
	}

	cfg := around.Defaults()
	cfg.Socket = "" // its default hangs on the data directory
	if err := merged.Unmarshal("", &cfg); err != nil {
		return Config{}, errors.Wrap(err, "read configuration")
	}
	if cfg.Socket == "" {
		cfg.Socket = around.socket(cfg.DataDir)
	}
	if cfg.PasswordFile != "" {
		if cfg.Password, err = ReadPassword(cfg.PasswordFile); err != nil {
			return Config{}, err
		}
	}
	cfg.File = path
	slices.Sort(unknown)
	for _, name := range unknown {
		cfg.Warnings = append(cfg.Warnings, name+" is set and is no option of ipamlog, so it does nothing")
	}
	for _, name := range formerNames {
		if around.getenv(name) != "" {
			cfg.Warnings = append(cfg.Warnings, name+" is a predecessor's variable and does nothing here: set IPAMLOG_"+strings.TrimPrefix(name, "IPAM_"))
		}
	}
	return cfg, cfg.check()
}

// formerNames are variables of oam-docker-ipam. A store that is named by one and not
// heard would be an embedded etcd on each host, and the same addresses on all.
var formerNames = []string{"IPAM_CLUSTER_STORE", "IPAM_DEBUG"}

// keyDelimiter never stands in an option's name, so that a nested key in the
// file is unknown, and named whole.
const keyDelimiter = "."

// check refuses options that contradict each other.
func (c Config) check() error {
	switch {
	case c.DataDir == "":
		return errors.New("there is no directory to keep data in; name one with --data-dir")
	case (c.Cert == "") != (c.Key == ""):
		return errors.New("a client certificate and its key come together; give both --cert and --key")
	case (c.ListenCert == "") != (c.ListenKey == ""):
		return errors.New("the certificate of --listen and its key come together; give both --listen-cert and --listen-key")
	case c.ListenClientCA != "" && c.ListenCert == "":
		return errors.New("client certificates are shown over TLS alone; give --listen-cert and --listen-key beside --listen-client-ca")
	case (c.ArchiveAfter == 0) != (c.ArchiveTo == ""):
		return errors.New("what is archived needs an age and a place; give both --archive-after and --archive-to")
	case c.User != "" && c.Password == "":
		return errors.Newf("etcd's user %q needs a password; set IPAMLOG_PASSWORD or name a file with --password-file", c.User)
	case c.User == "" && c.Password != "":
		return errors.New("there is a password for etcd and no user; name the user with --user")
	}
	return nil
}

// configFile returns the file to read, or nothing.
func configFile(flags *pflag.FlagSet, around Surroundings) (string, error) {
	if flag := flags.Lookup(configFlag); flag != nil && flag.Changed {
		return flag.Value.String(), nil
	}
	if path := around.getenv(configVariable); path != "" {
		return path, nil
	}
	if around.DefaultFile == "" {
		return "", nil
	}
	_, err := os.Stat(around.DefaultFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", errors.Newf("the configuration file cannot be read; mend it or name another with --config: %v", err)
	}
	return around.DefaultFile, nil
}
