// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"

	"google.golang.org/grpc"
)

// endWith ends every stream of an outside client, its watches above all, when
// running ends. Without it one stop in three would first wait five seconds for
// watches that nobody intends to end.
func endWith(running context.Context) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		ctx, cancel := context.WithCancel(stream.Context())
		defer cancel()
		defer context.AfterFunc(running, cancel)()
		return handler(srv, endingStream{stream, ctx})
	}
}

// An endingStream has a context of its own.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s endingStream) Context() context.Context { return s.ctx }
