// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"

	"github.com/moby/moby/client"
)

// Swarm says in Docker's word what the engine is in a swarm: inactive for one that is in
// none; pending, active, locked or error for a member.
func (e *Engine) Swarm(ctx context.Context) (string, error) {
	answer, err := e.client.Info(ctx, client.InfoOptions{})
	return string(answer.Info.Swarm.LocalNodeState), e.explain(err, "ask whether it is in a swarm")
}
