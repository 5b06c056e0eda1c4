// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/moby/moby/client"
)

// Event is something that happened to a container or a network.
type Event struct {
	Time      time.Time
	Type      string            // container or network
	Action    string            // create, start, rename, destroy, connect...
	Container string            // its ID; empty where none is concerned
	Network   string            // its ID; empty for what happened to a container alone
	Name      string            // of the container, at an event of its own
	OldName   string            // at a rename
	Image     string            // as the container was asked for
	Labels    map[string]string // at a creation, a start and a renaming; at others with whatever else is told
}

// Events calls each with every event about containers and networks since a moment
// (zero: from now on), one after the other, and connected once before them: what
// happens after that comes as an event. It returns when the engine ends the stream
// or ctx ends, always with an error.
//
// The engine remembers no more than its last 256 events, and drops what a slow
// reader does not take: events are hints, and no record.
func (e *Engine) Events(ctx context.Context, since time.Time, connected func(), each func(Event)) error {
	// The reader of the stream ends with its context.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	o := client.EventsListOptions{Filters: client.Filters{}.Add("type", "container", "network")}
	if !since.IsZero() {
		o.Since = since.UTC().Format(time.RFC3339Nano)
	}
	stream := e.client.Events(ctx, o)
	select {
	case err := <-stream.Err:
		return e.ended(err)
	default:
	}
	connected()
	for {
		select {
		case err := <-stream.Err:
			return e.ended(err)
		case m := <-stream.Messages:
			event := Event{Time: time.Unix(0, m.TimeNano).UTC(), Type: string(m.Type), Action: string(m.Action)}
			attributes := m.Actor.Attributes
			switch m.Type {
			case "network":
				event.Network, event.Container = m.Actor.ID, attributes["container"]
			case "container":
				event.Container, event.Name, event.Image = m.Actor.ID, attributes["name"], attributes["image"]
				event.OldName = strings.TrimPrefix(attributes["oldName"], "/")
				event.Labels = labelsAmong(attributes)
			}
			each(event)
		}
	}
}

func (e *Engine) ended(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return errors.Mark(errors.New("the engine ended its stream of events"), ErrUnreachable)
	}
	return e.explain(err, "follow the engine's events")
}

// labelsAmong are the labels among the attributes of a container's creation, start
// or renaming, which have little else.
func labelsAmong(attributes map[string]string) map[string]string {
	labels := map[string]string{}
	for k, v := range attributes {
		if k != "name" && k != "image" && k != "oldName" {
			labels[k] = v
		}
	}
	return labels
}
