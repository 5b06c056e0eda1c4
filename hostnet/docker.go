// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"context"
	"fmt"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/engine"
)

// createNetwork makes the Docker network.
type createNetwork struct {
	Network engine.Network
	id      string // once it is made
}

// dockerPatience is how long Docker may take: it tries for 15 s to reach a
// plugin, for each of several requests.
const dockerPatience = 90 * time.Second

func (s *createNetwork) String() string {
	pool := s.Network.IPAM.Pools[0]
	text := fmt.Sprintf("create the Docker network %s: subnet %s, gateway %s", s.Network.Name, pool.Subnet, pool.Gateway)
	if router, ok := pool.Auxiliary[auxiliaryRouter]; ok {
		text += fmt.Sprintf(", router %s", router)
	}
	if name := s.Network.IPAM.Options[optionPool]; name != "" {
		text += ", pool " + name
	}
	return text + ", MTU " + s.Network.Options[optionMTU]
}

// What Docker was asked for it does, whether or not anyone waits: so the wait is
// to the end. When it is not Docker that says what went wrong, the network may be
// there, or come.
func (s *createNetwork) do(ctx context.Context, m *Machine) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dockerPatience)
	defer cancel()
	err := m.change("create the Docker network")
	if err == nil {
		s.id, err = m.docker.CreateNetwork(ctx, s.Network)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return errors.Mark(errors.Newf("Docker did not answer within %s, and may still do it: look at `docker network ls`", dockerPatience), ErrLeft)
	case errors.Is(err, engine.ErrUncertain):
		return errors.Mark(errors.WithMessage(err, "Docker may have made the network: look at `docker network ls`"), ErrLeft)
	}
	return err
}

func (s *createNetwork) undo(ctx context.Context, m *Machine) error {
	if err := m.change("remove the Docker network"); err != nil {
		return err
	}
	return m.docker.RemoveNetwork(ctx, s.id)
}
