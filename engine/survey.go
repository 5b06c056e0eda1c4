// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"time"

	"github.com/cockroachdb/errors"
)

// questionPatience bounds each question of a [Survey]: an engine may be there and never
// answer.
const questionPatience = 10 * time.Second

// Surveyed is what [Survey] asks; [Engine] is one.
type Surveyed interface {
	Networks(ctx context.Context) ([]Network, error)
	Network(ctx context.Context, id string) (Network, error)
}

// Survey tells of all networks that are wanted, with their endpoints: completely, or not
// at all. What is removed meanwhile is left out.
func Survey(ctx context.Context, e Surveyed, wanted func(Network) bool) ([]Network, error) {
	list, err := question(ctx, e.Networks)
	if err != nil {
		return nil, err
	}
	var seen []Network
	for _, listed := range list {
		if !wanted(listed) {
			continue
		}
		n, err := question(ctx, func(ctx context.Context) (Network, error) { return e.Network(ctx, listed.ID) })
		switch {
		case errors.Is(err, ErrNoNetwork): // removed since they were listed
		case err != nil:
			return nil, err
		default:
			seen = append(seen, n)
		}
	}
	return seen, nil
}

func question[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, questionPatience)
	defer cancel()
	return ask(ctx)
}
