// SPDX-License-Identifier: Apache-2.0

package events

import (
	"time"

	"github.com/cockroachdb/errors"
	"github.com/oklog/ulid/v2"
)

// ID names a commit, a pool, a grant, an allocation or a store. It is a ULID:
// unique everywhere, and near the order of time but not in it. The zero ID means
// none.
//
// It is a type of its own because the library's reads any 26 characters: in a
// log, what is no ID must not pass for one.
type ID ulid.ULID

// ParseID reads an ID, strictly.
func ParseID(s string) (ID, error) {
	id, err := ulid.ParseStrict(s)
	return ID(id), errors.Wrapf(err, "read the id %q", s)
}

// String is the ID in its 26 characters.
func (id ID) String() string { return ulid.ULID(id).String() }

// IsZero says whether the ID means none.
func (id ID) IsZero() bool { return id == ID{} }

// Compare orders IDs as their texts are ordered.
func (id ID) Compare(other ID) int { return ulid.ULID(id).Compare(ulid.ULID(other)) }

// Time is the time in the ID, to the millisecond. Nothing may be ordered by it.
func (id ID) Time() time.Time { return ulid.ULID(id).Timestamp() }

// MarshalText implements [encoding.TextMarshaler].
func (id ID) MarshalText() ([]byte, error) { return ulid.ULID(id).MarshalText() }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (id *ID) UnmarshalText(text []byte) error {
	parsed, err := ParseID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}
