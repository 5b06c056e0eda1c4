// SPDX-License-Identifier: Apache-2.0

package events

// The readers of the canonical encoding, and the tolerant decoders that they
// must agree with.
var (
	ReadCommit = readCommit
	ReadEvent  = readEvent
	ReadHeld   = readHeld

	DecodeAnyEvent = decodeAnyEvent
	DecodeAnyHeld  = decodeAnyGuard[Held]
)

// DecodeAny is the tolerant decoder, of events too.
func DecodeAny(data []byte) (Commit, error) {
	return decodeAny(data, decodeAnyEvent)
}
