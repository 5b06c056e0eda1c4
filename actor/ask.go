// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"context"
	"time"
)

// askPatience bounds a question to the engine, and one to the store.
const askPatience = 10 * time.Second

// Ask puts a question to the engine or the store, and waits ten seconds at most: either
// may be there and never answer.
func Ask[T any](ctx context.Context, question func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	return question(ctx)
}
