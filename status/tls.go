// SPDX-License-Identifier: Apache-2.0

package status

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"sync"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"
)

// Files are the PEM files that TLS needs.
type Files struct {
	Cert, Key string
	// ClientCA is the authority whose client certificates are taken; empty: none
	// is asked for. A client may show none all the same.
	ClientCA string
}

// TLS returns what a server needs to speak TLS with these files; nil if none is
// named. They are read again when they change, and while they cannot be, what was
// read before holds. Its error is one sentence.
func TLS(files Files, log zerolog.Logger) (*tls.Config, error) {
	if files == (Files{}) {
		return nil, nil
	}
	k := &keyring{files: files, log: log}
	if err := k.read(); err != nil {
		return nil, err
	}
	first := k.config.Clone()
	first.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return k.now(), nil }
	return first, nil
}

// keyring is what the files held when they were read last.
type keyring struct {
	files Files
	log   zerolog.Logger

	mu     sync.Mutex
	marks  [3]mark
	config *tls.Config
}

// mark tells one state of a file from the next.
type mark struct {
	changed time.Time
	size    int64
}

// now returns what holds now.
func (k *keyring) now() *tls.Config {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.look() != k.marks {
		if err := k.read(); err != nil {
			k.log.Error().Err(err).Msg("the former certificates are used until this is mended")
		} else {
			k.log.Info().Msg("the certificates of --listen were read again")
		}
	}
	return k.config
}

func (k *keyring) look() (marks [3]mark) {
	for i, path := range []string{k.files.Cert, k.files.Key, k.files.ClientCA} {
		if info, err := os.Stat(path); err == nil {
			marks[i] = mark{info.ModTime(), info.Size()}
		}
	}
	return marks
}

func (k *keyring) read() error {
	k.marks = k.look() // before, so that what changes meanwhile is seen later
	cert, err := tls.LoadX509KeyPair(k.files.Cert, k.files.Key)
	if err != nil {
		return errors.Newf("the certificate of --listen cannot be used; mend --listen-cert or --listen-key: %v", err)
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert},
		// A resumed session would outlive the authority that let it in.
		SessionTicketsDisabled: true,
	}
	if k.files.ClientCA != "" {
		raw, err := os.ReadFile(k.files.ClientCA)
		if err != nil {
			return errors.Newf("the authority of client certificates cannot be read; mend --listen-client-ca: %v", err)
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(raw) {
			return errors.Newf("there is no certificate in %s; name the authority's PEM file with --listen-client-ca", k.files.ClientCA)
		}
		// Metrics and health are for everyone, so nobody has to show one.
		config.ClientAuth = tls.VerifyClientCertIfGiven
	}
	k.config = config
	return nil
}
