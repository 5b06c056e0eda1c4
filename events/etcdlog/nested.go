// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"context"
	"strings"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrNested is returned by [Log.Found] and [Log.Restore] where one log would begin
// inside another: who looks below the outer one's prefix would meet the keys of both.
var ErrNested = errors.New("one log would be inside another")

// nestedLook is how many of the keys below a prefix are looked at for another log.
const nestedLook = 1000

// kinds are the parts of a key that follow the prefix of a log.
var kinds = map[string]bool{
	"alive": true, "grants": true, "heads": true, "held": true, "hosts": true,
	"log": true, "meta": true, "pools": true, "restored": true, "segments": true,
}

// alone makes sure, before a log begins below the prefix, that this is not inside
// another's, and no other inside this. What the user of the store may not read is
// passed over.
func (l *Log) alone(ctx context.Context) error {
	for i, r := range l.keys[:len(l.keys)-1] {
		if r != '/' {
			continue
		}
		outer := l.keys[:i+1]
		switch begun, err := l.begun(ctx, outer); {
		case err != nil:
			return err
		case begun:
			return errors.Mark(errors.Newf("the prefix %s is inside %s, where another ipamlog log is: use that one, or one beside it, with --prefix", l.keys, outer), ErrNested)
		}
	}
	page, err := l.get(ctx, string(l.keys), clientv3.WithPrefix(), clientv3.WithLimit(nestedLook), clientv3.WithKeysOnly())
	if err != nil {
		return unlessDenied(err)
	}
	seen := map[keys]bool{}
	for _, kv := range page.Kvs {
		parts := strings.SplitAfter(lastPart(kv.Key, string(l.keys)), "/")
		inner := l.keys
		for i := 1; i < len(parts); i++ {
			inner += keys(parts[i-1])
			if !kinds[strings.TrimSuffix(parts[i], "/")] || seen[inner] {
				continue
			}
			seen[inner] = true
			switch begun, err := l.begun(ctx, inner); {
			case err != nil:
				return err
			case begun:
				return errors.Mark(errors.Newf("inside the prefix %s, at %s, is another ipamlog log: use that one, or one beside it, with --prefix", l.keys, inner), ErrNested)
			}
		}
	}
	return nil
}

// begun says whether a log begins at a prefix, or is being restored there.
func (l *Log) begun(ctx context.Context, at keys) (bool, error) {
	for _, key := range []string{at.store(), at.restoring()} {
		resp, err := l.get(ctx, key, clientv3.WithKeysOnly())
		if err != nil {
			return false, unlessDenied(err)
		}
		if len(resp.Kvs) > 0 {
			return true, nil
		}
	}
	return false, nil
}

func unlessDenied(err error) error {
	if errors.Is(err, rpctypes.ErrPermissionDenied) {
		return nil
	}
	return errors.Wrap(err, "look for other logs in the store")
}
