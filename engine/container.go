// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/moby/moby/client"
)

// ErrNoContainer marks an error about a container that does not exist.
var ErrNoContainer = errors.New("no such container")

// Container is a container of the engine, running or not.
type Container struct {
	ID      string
	Name    string // without the slash
	Image   string // as it was asked for; a list gives the image's ID once that name means another image
	ImageID string
	Labels  map[string]string
}

// Containers tells of those containers that exist among the given ones, by their
// whole IDs, in no order. It waits for none of them, not even for one that is
// starting.
func (e *Engine) Containers(ctx context.Context, ids []string) ([]Container, error) {
	if len(ids) == 0 {
		return nil, nil // no filter would be every container
	}
	list, err := e.client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("id", ids...)})
	if err != nil {
		return nil, e.explain(err, "list the containers")
	}
	containers := make([]Container, len(list.Items))
	for i, c := range list.Items {
		containers[i] = Container{ID: c.ID, Name: ownName(c.Names), Image: c.Image, ImageID: c.ImageID, Labels: c.Labels}
	}
	return containers, nil
}

// ownName finds the container's name among those that others link to it by, which
// have a second slash.
func ownName(names []string) string {
	for _, n := range names {
		if name := strings.TrimPrefix(n, "/"); !strings.Contains(name, "/") {
			return name
		}
	}
	return ""
}

// Container inspects one container by its ID or name. While the container starts
// or stops the engine does not answer, and this waits for it until the context
// ends. If there is none, the error is marked [ErrNoContainer].
func (e *Engine) Container(ctx context.Context, id string) (Container, error) {
	answer, err := e.client.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		if err = e.explain(err, "inspect container "+id); errors.Is(err, ErrNoNetwork) {
			err = errors.Mark(errors.Newf("there is no container %s", id), ErrNoContainer)
		}
		return Container{}, err
	}
	c := Container{ID: answer.Container.ID, Name: strings.TrimPrefix(answer.Container.Name, "/"), ImageID: answer.Container.Image}
	if config := answer.Container.Config; config != nil {
		c.Image, c.Labels = config.Image, config.Labels
	}
	return c, nil
}
