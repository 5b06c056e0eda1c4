// SPDX-License-Identifier: Apache-2.0

package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"
)

const (
	// shortestToken is how many characters a token has at least: fewer can be
	// guessed.
	shortestToken = 16
	// largestTokens is how many bytes their file may have.
	largestTokens = 1 << 20
)

// Tokens are those in a file, one a line; empty lines and such that begin with #
// are none. The file is read again when it changes. Safe for concurrent use.
type Tokens struct {
	path string
	log  zerolog.Logger

	mu    sync.Mutex
	seen  os.FileInfo         // the file that was read; nil: none
	known [][sha256.Size]byte // equally long whatever the token, so that comparing tells nothing
	err   error
}

// ReadTokens reads a file of tokens. Its error is one sentence, and shows none of
// them. What happens to the file later is told to the log.
func ReadTokens(path string, log zerolog.Logger) (*Tokens, error) {
	t := &Tokens{path: path, log: log}
	t.look()
	return t, t.err
}

// Know says whether the text is one of the tokens. It returns an error while the
// file, since it changed, cannot be read: then nobody is known.
func (t *Tokens) Know(shown string) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.look()
	sum, found := sha256.Sum256([]byte(shown)), 0
	for i := range t.known {
		found |= subtle.ConstantTimeCompare(sum[:], t.known[i][:])
	}
	return found == 1 && t.err == nil, t.err
}

// look reads the file if it is another than was read last.
func (t *Tokens) look() {
	info, err := os.Stat(t.path)
	if err == nil && t.seen != nil && os.SameFile(info, t.seen) && info.ModTime().Equal(t.seen.ModTime()) && info.Size() == t.seen.Size() {
		return
	}
	if err != nil && t.err != nil && t.seen == nil {
		return // still not there
	}
	again := t.seen != nil || t.err != nil
	t.seen, t.known, t.err = nil, nil, nil
	if err == nil {
		t.seen = info
		t.known, err = readTokens(t.path)
	}
	if err != nil {
		t.err = errors.Newf("the tokens cannot be read; mend the file or name another with --listen-token-file: %v", err)
		if again {
			t.log.Error().Err(t.err).Msg("nobody is let in by a token until this is mended")
		}
		return
	}
	if info.Mode().Perm()&0o027 != 0 {
		t.log.Warn().Str("file", t.path).Stringer("mode", info.Mode().Perm()).Msg("the tokens may be read or changed by others than their owner: chmod 600 it")
	}
	if again {
		t.log.Info().Int("tokens", len(t.known)).Msg("the tokens were read again")
	}
}

func readTokens(path string) ([][sha256.Size]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, largestTokens+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > largestTokens {
		return nil, errors.Newf("%s is larger than %d bytes", path, largestTokens)
	}
	var known [][sha256.Size]byte
	n := 0
	for line := range strings.Lines(string(raw)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		switch {
		case len(line) < shortestToken:
			return nil, errors.Newf("line %d of %s has fewer than %d characters", n, path, shortestToken)
		case strings.ContainsFunc(line, func(r rune) bool { return r <= ' ' || r > '~' }):
			return nil, errors.Newf("line %d of %s has white space or other characters that a header cannot carry", n, path)
		}
		known = append(known, sha256.Sum256([]byte(line)))
	}
	if len(known) == 0 {
		return nil, errors.Newf("%s has no token in it", path)
	}
	return known, nil
}
