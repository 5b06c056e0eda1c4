// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/cockroachdb/errors"
)

// limit is the size of the largest dump that is read, in bytes. An address takes
// some 150 of them, so it is enough for a few subnets of /16, all in use.
const limit = 64 << 20

const recognised = "give it a dump of etcd, of Consul, or the output of docker network inspect; docs/migrating.md has the commands"

// Read reads a dump to its end. Dumps over 64 MiB are refused, and so are bitmaps
// with more than a million addresses held. The error is a sentence that says what
// to do.
func Read(r io.Reader) (Dump, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return Dump{}, errors.Wrap(err, "read the dump")
	}
	if len(data) > limit {
		return Dump{}, errors.Newf("the dump has more than %d MiB: dump the key tree of the one program alone", limit>>20)
	}
	data = bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	if len(data) == 0 {
		return Dump{}, errors.New("the dump is empty: look for what the command that should have written it said, and run it again")
	}
	switch data[0] {
	case '{':
		return readObject(data)
	case '[':
		return readArray(data)
	default:
		return readLines(data)
	}
}

// readObject reads an answer of etcd, or one network of Docker's.
func readObject(data []byte) (Dump, error) {
	var object struct {
		// API v2: an answer, an answer that is an error, or a node by itself.
		Node      *node
		ErrorCode int
		Message   string
		Cause     string
		node
		// API v3.
		Header *json.RawMessage
		KVs    []etcdPair
		More   bool
		// Docker's.
		IPAM *json.RawMessage
	}
	if err := json.Unmarshal(data, &object); err != nil {
		return Dump{}, damaged(err)
	}
	switch {
	case object.ErrorCode != 0:
		return Dump{}, errors.Newf("the dump is an answer of etcd that it could not do it, %q for %q: look for the right key with etcdctl ls, and dump that", object.Message, object.Cause)
	case object.Node != nil:
		return readTrees(object.Node.leaves(nil))
	case object.Key != "" && object.IPAM == nil:
		return readTrees(object.leaves(nil))
	case object.More:
		return Dump{}, errors.New("the dump has only a part of the keys: dump them without --limit")
	case object.Header != nil || object.KVs != nil:
		return readTrees(etcdEntries(object.KVs))
	case object.IPAM != nil:
		var one network
		if err := json.Unmarshal(data, &one); err != nil {
			return Dump{}, damaged(err)
		}
		return readNetworks([]network{one})
	}
	return Dump{}, errors.Newf("the dump is JSON of a kind that is not known: %s", recognised)
}

// readArray reads Consul's pairs or Docker's networks.
func readArray(data []byte) (Dump, error) {
	var probe []struct {
		Key  *string
		IPAM *json.RawMessage
	}
	if err := json.Unmarshal(data, &probe); err != nil {
		return Dump{}, damaged(err)
	}
	keys, networks := 0, 0
	for _, element := range probe {
		switch {
		case element.IPAM != nil:
			networks++
		case element.Key != nil:
			keys++
		}
	}
	switch len(probe) {
	case 0:
		return Dump{}, errors.New("the dump is an empty list: nothing was stored under the key, or Docker knows no such network")
	case keys:
		var pairs []consulPair
		if err := json.Unmarshal(data, &pairs); err != nil {
			return Dump{}, damaged(err)
		}
		return readConsul(consulEntries(pairs))
	case networks:
		var list []network
		if err := json.Unmarshal(data, &list); err != nil {
			return Dump{}, damaged(err)
		}
		return readNetworks(list)
	}
	return Dump{}, errors.Newf("the dump is a list of a kind that is not known: %s", recognised)
}

func damaged(err error) error {
	return errors.Wrap(err, "the dump is not whole JSON, dump it again")
}
