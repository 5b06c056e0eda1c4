// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"

	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/config"
)

// tellExposed warns of secrets that every user of this machine can read: who has the
// daemon's password or key may write its log.
func tellExposed(cfg config.Global, log zerolog.Logger) {
	for _, secret := range []struct{ option, path string }{{"--password-file", cfg.PasswordFile}, {"--key", cfg.Key}} {
		info, err := os.Stat(secret.path)
		if err == nil && info.Mode().Perm()&0o004 != 0 {
			log.Warn().Str("option", secret.option).Str("file", secret.path).Msg("every user of this machine can read a secret of the daemon: run chmod o-r on the file")
		}
	}
}
