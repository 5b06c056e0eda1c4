// SPDX-License-Identifier: Apache-2.0

package actor

import "context"

// TellSwarmOnce is one round of [Host.TellSwarm].
func (h *Host) TellSwarmOnce(ctx context.Context, state func(context.Context) (string, error)) error {
	return h.tellSwarm(ctx, state)
}
