// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/errors"
	"golang.org/x/mod/sumdb/note"

	"github.com/ipamlog/ipamlog/durable"
)

// Key is what checkpoints are signed with: an Ed25519 key in the form of package note.
type Key struct {
	note.Signer
	// Public is what a checkpoint is verified with, in note's form of one line.
	Public string
}

// LoadKey reads the key of an archive, for its [Origin], from a file, or makes one there, which its
// owner alone can read. Beside it stands its public part, under the same name with
// ".pub". A key that is gone while its public part is there is not made anew: what it
// signed can be verified with that alone.
func LoadKey(path string, origin string) (Key, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path + ".pub"); err == nil {
			return Key{}, errors.Newf("the archive's key %s is gone, and %s.pub is there: put the key back, or keep the .pub under another name (it verifies what the key has signed) and a new one is made", path, path)
		}
		return makeKey(path, origin)
	}
	if err != nil {
		return Key{}, errors.Newf("the archive's key cannot be read, mend its file or name another with --archive-key: %v", err)
	}
	public, err := os.ReadFile(path + ".pub")
	if errors.Is(err, fs.ErrNotExist) {
		public, err = writePublic(path, string(text))
	}
	if err != nil {
		return Key{}, errors.Newf("the public part of the archive's key cannot be read, put it back beside the key: %v", err)
	}
	key := Key{Public: strings.TrimSpace(string(public))}
	if key.Signer, err = note.NewSigner(strings.TrimSpace(string(text))); err != nil {
		return Key{}, errors.Newf("%s holds no key of an archive: name another file with --archive-key", path)
	}
	verifier, err := note.NewVerifier(key.Public)
	if err != nil || verifier.KeyHash() != key.KeyHash() || verifier.Name() != key.Name() {
		return Key{}, errors.Newf("%s.pub is not the public part of the key beside it: put the right one there", path)
	}
	if key.Name() != origin {
		return Key{}, errors.Newf("the key in %s is of %s, and this is %s: name another file with --archive-key", path, key.Name(), origin)
	}
	return key, nil
}

func makeKey(path string, origin string) (Key, error) {
	private, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return Key{}, errors.Wrap(err, "make a key for the archive")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return Key{}, errors.Newf("there is no place for the archive's key, name another with --archive-key: %v", err)
	}
	if err := durable.WriteFile(path, []byte(private+"\n"), 0o600); err != nil {
		return Key{}, errors.Newf("the archive's key cannot be written, name another file with --archive-key: %v", err)
	}
	return LoadKey(path, origin) // which adds the public part
}

// writePublic puts the public part of a key beside it.
func writePublic(path, private string) ([]byte, error) {
	public, err := publicOf(strings.TrimSpace(private))
	if err != nil {
		return nil, err
	}
	text := []byte(public + "\n")
	return text, durable.WriteFile(path+".pub", text, 0o644)
}

// publicOf is the public part of a private key in note's form,
// PRIVATE+KEY+NAME+HASH+BASE64, where the last is a byte for Ed25519 and the seed.
func publicOf(private string) (string, error) {
	signer, err := note.NewSigner(private)
	if err != nil {
		return "", err
	}
	parts := strings.SplitN(private, "+", 5)
	seed, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return "", errors.New("it is no Ed25519 key")
	}
	public, is := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	if !is {
		return "", errors.AssertionFailedf("an Ed25519 key has a public part of another kind")
	}
	return note.NewEd25519VerifierKey(signer.Name(), public)
}

// IsKey says whether a text is a public key, and not the name of a file with one.
func IsKey(text string) bool {
	_, err := note.NewVerifier(strings.TrimSpace(text))
	return err == nil
}

// Keys are the public keys that a checkpoint may be signed by. The zero value has none.
type Keys struct {
	note.Verifiers
	// Origin is the name that they are all for.
	Origin string
}

// ParseKeys reads public keys, each in note's form of one line. All are of one log.
func ParseKeys(public ...string) (Keys, error) {
	var list []note.Verifier
	for _, text := range public {
		verifier, err := note.NewVerifier(strings.TrimSpace(text))
		if err != nil {
			return Keys{}, errors.Newf("%q is no public key of an archive: give the line in the .pub file beside the key", text)
		}
		if len(list) > 0 && verifier.Name() != list[0].Name() {
			return Keys{}, errors.Newf("the keys are of different logs, %s and %s: give those of one", list[0].Name(), verifier.Name())
		}
		list = append(list, verifier)
	}
	if len(list) == 0 {
		return Keys{}, errors.New("there is no public key to verify with: give one with --public-key")
	}
	return Keys{note.VerifierList(list...), list[0].Name()}, nil
}
