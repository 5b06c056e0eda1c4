// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"path/filepath"
	"time"

	"github.com/ipamlog/ipamlog/render"
)

// Global are the options of all commands. The zero value is not valid, use
// [Load].
type Global struct {
	// ClusterStore are the etcd endpoints, each host:port, http(s)://host:port
	// or unix://path. None: the embedded etcd of this host.
	ClusterStore []string `koanf:"cluster-store"`
	// Prefix is where all keys live; it begins and ends with a slash.
	Prefix string `koanf:"prefix"`
	// DataDir is the absolute path of the daemon's own directory.
	DataDir string `koanf:"data-dir"`

	// CACert, Cert and Key are PEM files, or empty. Cert and Key come together.
	CACert string `koanf:"cacert"`
	Cert   string `koanf:"cert"`
	Key    string `koanf:"key"`
	// User and Password are for etcd's own users: both or neither.
	User     string `koanf:"user"`
	Password Secret `koanf:"password"`
	// PasswordFile is where Password was read from, and may be renewed; or empty.
	PasswordFile string `koanf:"password-file"`

	// Archive is where segments of the log are read, wherever they were put; or empty. It
	// is an absolute directory, or s3://BUCKET/PREFIX.
	Archive string `koanf:"archive"`
	// ArchiveKey is the file with the key that segments are signed with, or empty: see
	// [Global.ArchiveKeyFile].
	ArchiveKey string `koanf:"archive-key"`

	// Output is how lists are printed.
	Output  render.Format `koanf:"output"`
	Debug   bool          `koanf:"debug"`
	NoColor bool          `koanf:"no-color"`
}

// ArchiveKeyFile is the file with the key that segments are signed with.
func (g Global) ArchiveKeyFile() string {
	return cmp.Or(g.ArchiveKey, filepath.Join(g.DataDir, "archive.key"))
}

// Off is what Engine and Listen are when there is none.
const Off = "off"

// Serve are the daemon's own options.
type Serve struct {
	// Socket is the absolute path of the socket on which Docker asks.
	Socket string `koanf:"socket"`
	// SocketGroup is the group that may use the socket beside root, or empty.
	SocketGroup string `koanf:"socket-group"`
	// Host is this host's name in the log. It is empty only where the kernel
	// has no name for the machine and none was given.
	Host string `koanf:"host"`
	// Engine is the address of Docker's API with its scheme, or [Off].
	Engine string `koanf:"engine"`
	// Listen is the host:port for metrics, health and the API, or [Off].
	Listen string `koanf:"listen"`
	// ListenCert and ListenKey are the PEM files for TLS on Listen, both or
	// neither. ListenClientCA is the PEM file of the authority whose client
	// certificates open the API, or empty; it comes with the other two.
	ListenCert     string `koanf:"listen-cert"`
	ListenKey      string `koanf:"listen-key"`
	ListenClientCA string `koanf:"listen-client-ca"`
	// ListenTokenFile holds the tokens that open the API, or is empty.
	ListenTokenFile string `koanf:"listen-token-file"`
	// DefaultAddressPools are what pools without a subnet are cut from, each
	// "BASE,SIZE" as [ParseAddressPool] reads it. None: the built-in ones.
	DefaultAddressPools []string `koanf:"default-address-pool"`
	// Labels are the patterns (see path.Match) of those labels of a container that
	// are noted with the addresses it holds.
	Labels []string `koanf:"labels"`
	// Reconcile is what is done about addresses on which the log and the engine
	// disagree: fix, report or off.
	Reconcile string `koanf:"reconcile"`
	// ReconcileEvery is the time between two comparisons, ReconcileGrace that between
	// two that must agree before anything is given back. Both are above zero.
	ReconcileEvery time.Duration `koanf:"reconcile-every"`
	ReconcileGrace time.Duration `koanf:"reconcile-grace"`
	// ArchiveAfter is how old commits are moved to the archive, an hour at least; 0: none
	// are. ArchiveTo is where, as Archive is written; both or neither.
	ArchiveAfter time.Duration `koanf:"archive-after"`
	ArchiveTo    string        `koanf:"archive-to"`
	// Managed says that this daemon is a managed plugin, which Swarm uses.
	Managed bool `koanf:"managed"`
}

// Config is everything that was asked for.
type Config struct {
	Global `koanf:",squash"`
	Serve  `koanf:",squash"`

	// File is the configuration file that was read, or empty.
	File string `koanf:"-"`
	// Warnings are sentences for the log about what was given and not used.
	Warnings []string `koanf:"-"`
}
