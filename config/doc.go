// SPDX-License-Identifier: Apache-2.0

// Package config finds out how ipamlog was asked to run.
//
// Every option has one name. It is given as a flag (--data-dir), as an
// environment variable (IPAMLOG_DATA_DIR) or in a YAML file (data-dir:), and
// the first of these that has it wins; what none of them has, has a default.
// The file is the one that --config or IPAMLOG_CONFIG names, else
// /etc/ipamlog/config.yaml where that exists.
//
// A command registers the flags it wants with [RegisterGlobal] and
// [RegisterServe], has the command line parsed, and calls [Load]:
//
//	around := config.Process()
//	config.RegisterGlobal(flags, around)
//	...
//	cfg, err := config.Load(flags, around)
//
// # Mistakes
//
// A mistake must not run the daemon against the wrong store. So a value that
// cannot be meant is refused with one sentence that names where it was given
// and what to write instead, and so is a name in the file that is no option.
// An unknown variable IPAMLOG_… may be somebody else's: it is only told of, in
// [Config.Warnings].
//
// # Secrets
//
// A password on a command line is seen by everyone on the machine. It is read
// from IPAMLOG_PASSWORD, from the configuration file or from a file of its
// own, and is a [Secret]: printing a configuration does not print it.
package config
