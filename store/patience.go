// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Patient bounds every question that the client asks from now on: one that has
// no answer after so long fails with context.DeadlineExceeded. Watches and
// leases are left alone. It must be called before the client is used.
func Patient(client *clientv3.Client, patience time.Duration) {
	kv, ok := client.KV.(patientKV)
	if !ok {
		kv = patientKV{KV: client.KV, heard: &lastWords{}}
	}
	kv.patience = patience
	client.KV = kv
}

// lastWords is what the network said when a question failed last. The client
// waits for a connection as long as it may, and forgets why there was none.
type lastWords struct{ text atomic.Pointer[string] }

// listen is an interceptor around every attempt to ask.
func (w *lastWords) listen(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	if err == nil {
		w.text.Store(nil)
		return nil
	}
	if s, ok := status.FromError(err); ok {
		text := s.Message()
		// The reason is the last of several layers' words.
		for _, lead := range []string{"latest balancer error: ", "desc = ", "transport: "} {
			if i := strings.LastIndex(text, lead); i >= 0 {
				text = text[i+len(lead):]
			}
		}
		text = strings.Trim(strings.Join(strings.Fields(text), " "), `"`)
		text = strings.ReplaceAll(text, `\"`, `'`)
		w.text.Store(&text)
	}
	return err
}

// silence is an error of a store that does not answer, in the words of the network.
type silence struct {
	error
	said string
}

// Error implements error.
func (e *silence) Error() string { return e.said }

func (e *silence) Unwrap() error { return e.error }

// about adds to an error what was heard, if it is one of silence.
func (w *lastWords) about(err error) error {
	if err == nil || !Silent(err) {
		return err
	}
	said := "no answer in time"
	if text := w.text.Load(); text != nil && !strings.HasPrefix(*text, context.DeadlineExceeded.Error()) {
		said = *text
	}
	return &silence{err, said}
}

type patientKV struct {
	clientv3.KV
	patience time.Duration // 0: for ever
	heard    *lastWords
}

// within bounds one question.
func (kv patientKV) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if kv.patience == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, kv.patience)
}

func (kv patientKV) Put(ctx context.Context, key, val string, opts ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	ctx, cancel := kv.within(ctx)
	defer cancel()
	resp, err := kv.KV.Put(ctx, key, val, opts...)
	return resp, kv.heard.about(err)
}

func (kv patientKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := kv.within(ctx)
	defer cancel()
	resp, err := kv.KV.Get(ctx, key, opts...)
	return resp, kv.heard.about(err)
}

func (kv patientKV) Delete(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.DeleteResponse, error) {
	ctx, cancel := kv.within(ctx)
	defer cancel()
	resp, err := kv.KV.Delete(ctx, key, opts...)
	return resp, kv.heard.about(err)
}

func (kv patientKV) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	ctx, cancel := kv.within(ctx)
	defer cancel()
	resp, err := kv.KV.Do(ctx, op)
	return resp, kv.heard.about(err)
}

func (kv patientKV) Txn(ctx context.Context) clientv3.Txn {
	ctx, cancel := kv.within(ctx)
	return &patientTxn{txn: kv.KV.Txn(ctx), done: cancel, heard: kv.heard}
}

// patientTxn ends its context when it is committed, which every transaction is.
type patientTxn struct {
	txn   clientv3.Txn
	done  context.CancelFunc
	heard *lastWords
}

func (t *patientTxn) If(cs ...clientv3.Cmp) clientv3.Txn   { t.txn = t.txn.If(cs...); return t }
func (t *patientTxn) Then(ops ...clientv3.Op) clientv3.Txn { t.txn = t.txn.Then(ops...); return t }
func (t *patientTxn) Else(ops ...clientv3.Op) clientv3.Txn { t.txn = t.txn.Else(ops...); return t }

func (t *patientTxn) Commit() (*clientv3.TxnResponse, error) {
	defer t.done()
	resp, err := t.txn.Commit()
	return resp, t.heard.about(err)
}

// Silent says whether an error means that the store does not answer, rather than
// that it answered no.
func Silent(err error) bool {
	if errors.IsAny(err, context.DeadlineExceeded, clientv3.ErrNoAvailableEndpoints) {
		return true
	}
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		code := s.GRPCStatus().Code()
		return code == codes.Unavailable || code == codes.DeadlineExceeded
	}
	return false
}

// sentence is what a user is told of an error, which it still is to those who decide
// on it.
type sentence struct {
	text  string
	cause error
}

func say(cause error, format string, args ...any) error {
	return &sentence{text: fmt.Sprintf(format, args...), cause: cause}
}

// Error implements error.
func (s *sentence) Error() string { return s.text }

func (s *sentence) Unwrap() error { return s.cause }

// Full says whether an error means that etcd takes no more writes for lack of space.
func Full(err error) bool { return errors.Is(err, rpctypes.ErrNoSpace) }

// Refused turns an error by which etcd refuses its user, or any write for lack of
// space, into a sentence that says what to do; others it returns as they are.
func Refused(err error) error {
	var refused rpctypes.EtcdError
	switch {
	case err == nil || !errors.As(err, &refused):
		return err
	case Full(err):
		return say(err, "etcd is full (%s): compact and defragment it, then end its alarm with `etcdctl alarm disarm` (docs/operations.md has the commands)", refused.Error())
	case errors.IsAny(err, rpctypes.ErrAuthFailed, rpctypes.ErrUserEmpty):
		return say(err, "etcd does not know its user (%s): see that --user, and the password in --password-file or IPAMLOG_PASSWORD, are right", refused.Error())
	case refused.Code() == codes.PermissionDenied:
		return say(err, "etcd does not let its user do this (%s): give the user the role it needs (see docs/security.md), or name another one with --user", refused.Error())
	}
	return err
}

// Explain turns an error that means a silent store, or one that refuses, into a
// sentence that says what to do; others it returns as they are.
func Explain(err error, client *clientv3.Client) error { return explain(err, client.Endpoints()) }

func explain(err error, endpoints []string) error {
	if err == nil || !Silent(err) {
		return Refused(err)
	}
	said, at := cause(err), strings.Join(endpoints, ", ")
	if strings.Contains(said, "looked like an HTTP/1.1 header") {
		return say(err, "what answers at %s is no etcd, but some other web server: name etcd's address for clients, mostly of port 2379, in --cluster-store", at)
	}
	return say(err, "etcd at %s does not answer (%s): %s", at, said, remedy(said))
}

// remedy is what to do about what the network said.
func remedy(said string) string {
	for _, r := range []struct{ word, remedy string }{
		{"does not look like a TLS handshake", "it has no TLS there, so name it with http:// in --cluster-store"},
		{"tls: ", "see that --cacert, --cert and --key are the right ones"},
		{"server preface", "it may want TLS, so name it with https:// in --cluster-store"},
	} {
		if strings.Contains(said, r.word) {
			return r.remedy
		}
	}
	return "see that it runs, and that --cluster-store names it"
}

// cause is what the network said.
func cause(err error) string {
	var silent *silence
	if errors.As(err, &silent) {
		return silent.said
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return strings.Join(strings.Fields(errors.UnwrapAll(err).Error()), " ")
}
