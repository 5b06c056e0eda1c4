// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/cockroachdb/errors"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// Checkpoint is a signed statement about the tree after a segment: a checkpoint of C2SP's
// tlog-checkpoint (https://c2sp.org/tlog-checkpoint) in a signed note
// (https://c2sp.org/signed-note), with one extension line that names the segment's file
// and its SHA-256.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash
	File   string
	SHA256 [sha256.Size]byte
}

// Origin is the name of a log's tree in its checkpoints: that of the store in which it
// began, also where the log was restored into another one since.
func Origin(store events.ID, segments []etcdlog.Segment) string {
	if len(segments) > 0 {
		return segments[0].Origin
	}
	return "ipamlog/" + store.String()
}

const extension = "segment "

// text is the checkpoint before it is signed.
func (c Checkpoint) text() string {
	return c.Origin + "\n" +
		strconv.FormatInt(c.Size, 10) + "\n" +
		base64.StdEncoding.EncodeToString(c.Root[:]) + "\n" +
		extension + c.File + " sha256 " + hex.EncodeToString(c.SHA256[:]) + "\n"
}

// sign returns the signed note.
func (c Checkpoint) sign(key note.Signer) ([]byte, error) {
	signed, err := note.Sign(&note.Note{Text: c.text()}, key)
	return signed, errors.Wrap(err, "sign a checkpoint")
}

// openCheckpoint reads a signed note. It fails unless one of the keys has signed it, and
// for any text but the one that these very values have.
func openCheckpoint(signed []byte, keys note.Verifiers) (Checkpoint, error) {
	n, err := note.Open(signed, keys)
	if err != nil {
		return Checkpoint{}, errors.Newf("it is not signed by a key that is known here: %v", err)
	}
	if err := exact(signed, n); err != nil {
		return Checkpoint{}, err
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) < 4 {
		return Checkpoint{}, errors.New("it is no checkpoint")
	}
	c := Checkpoint{Origin: lines[0]}
	c.Size, err = strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return Checkpoint{}, errors.Newf("it is no checkpoint: %q is no number of commits", lines[1])
	}
	if c.Root, err = tlog.ParseHash(lines[2]); err != nil {
		return Checkpoint{}, errors.Newf("it is no checkpoint: %q is no root", lines[2])
	}
	file, sum, _ := strings.Cut(strings.TrimPrefix(lines[3], extension), " sha256 ")
	raw, err := hex.DecodeString(sum)
	if err != nil || len(raw) != sha256.Size {
		return Checkpoint{}, errors.Newf("it names no segment: %q", lines[3])
	}
	c.File, c.SHA256 = file, [sha256.Size]byte(raw)
	if c.text() != n.Text {
		return Checkpoint{}, errors.New("it is not written as a checkpoint of a segment is")
	}
	return c, nil
}

// exact refuses a note that is not, byte for byte, what the signer wrote: base64 has
// several forms of one signature, and lines may be added to a note that nobody checks.
func exact(signed []byte, n *note.Note) error {
	if len(n.UnverifiedSigs) > 0 {
		return errors.Newf("it has a signature of an unknown key, %s", n.UnverifiedSigs[0].Name)
	}
	want := []byte(n.Text + "\n")
	for _, sig := range n.Sigs {
		raw, err := base64.StdEncoding.DecodeString(sig.Base64)
		if err != nil {
			return errors.Newf("the signature of %s is not base64", sig.Name)
		}
		want = append(want, "— "+sig.Name+" "+base64.StdEncoding.EncodeToString(raw)+"\n"...)
	}
	if !bytes.Equal(signed, want) {
		return errors.New("a byte of its signature was changed")
	}
	return nil
}
