// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"cmp"
	"slices"

	"github.com/ipamlog/ipamlog/projection"
)

// Container is a container as the engine told of it.
type Container struct {
	ID string `json:"id"`
	// Name is the one it had at the moment asked about, or the last one it had while
	// it held the address. Nil: not known, or nobody can say when one of Names took
	// the other's place: nobody saw it, or the clock that tells of it is in doubt.
	Name *string `json:"name"`
	// Names are all it had while it held the address, if that is more than one.
	Names   []string          `json:"names,omitempty"`
	Image   *string           `json:"image"`
	ImageID *string           `json:"image_id"`
	Labels  map[string]string `json:"labels"` // never nil
}

// Network is a Docker network.
type Network struct {
	ID   string  `json:"id"`
	Name *string `json:"name"`
}

// describe returns a holding with what is known of it at the moment.
func (m Moment) describe(x *projection.Holding) Holding {
	return Holding{Holding: *x, Container: m.container(x), Network: networkOf(x.Told)}
}

// endpointID is the engine's id of the endpoint; empty if it is not known.
func (h Holding) endpointID() string {
	for _, t := range h.Told {
		if t.EndpointID != "" {
			return t.EndpointID
		}
	}
	return ""
}

func networkOf(all []projection.Told) *Network {
	for _, t := range slices.Backward(all) {
		if t.NetworkID != "" {
			return &Network{ID: t.NetworkID, Name: known(t.NetworkName)}
		}
	}
	return nil
}

func (m Moment) container(x *projection.Holding) *Container {
	told := ofContainer(x.Told)
	if len(told) == 0 {
		return nil
	}
	last := told[len(told)-1]
	c := &Container{ID: last.ContainerID, Name: m.name(x, told), Labels: map[string]string{}}
	// One that was told later may say less: the engine could not be asked any more.
	for _, t := range told {
		c.Image, c.ImageID = cmp.Or(known(t.Image), c.Image), cmp.Or(known(t.ImageID), c.ImageID)
		if len(t.Labels) > 0 {
			c.Labels = t.Labels
		}
		if t.ContainerName != "" && !slices.Contains(c.Names, t.ContainerName) {
			c.Names = append(c.Names, t.ContainerName)
		}
	}
	if len(c.Names) < 2 {
		c.Names = nil
	}
	return c
}

// ofContainer are the tellings that are of a container.
func ofContainer(all []projection.Told) []projection.Told {
	if !slices.ContainsFunc(all, func(t projection.Told) bool { return t.ContainerID == "" }) {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(t projection.Told) bool { return t.ContainerID == "" })
}

// name is the one that a container had at the moment.
func (m Moment) name(x *projection.Holding, told []projection.Told) *string {
	now := told[0]
	switch {
	case m == (Moment{}):
		now = told[len(told)-1]
	case m.byTime:
		return known(named(m.history.namings(x, told), m.Time))
	}
	for _, next := range told[1:] {
		if m != (Moment{}) && next.Revision <= m.Revision {
			now = next
		}
	}
	return known(now.ContainerName)
}
