// SPDX-License-Identifier: Apache-2.0

package columns

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
)

// Holdings are the columns of holdings.
func Holdings() []render.Column[replay.Holding] {
	column := func(name string, value func(replay.Holding) string) render.Column[replay.Holding] {
		return render.Column[replay.Holding]{Name: name, Value: value}
	}
	container := func(name string, value func(*replay.Container) *string) render.Column[replay.Holding] {
		return column(name, func(x replay.Holding) string {
			if x.Container == nil {
				return ""
			}
			return text(value(x.Container))
		})
	}
	network := func(name string, value func(*replay.Network) *string) render.Column[replay.Holding] {
		return column(name, func(x replay.Holding) string {
			if x.Network == nil {
				return ""
			}
			return text(value(x.Network))
		})
	}
	doubt := func(name string, end func(*replay.Doubt) time.Time) render.Column[replay.Holding] {
		return column(name, func(x replay.Holding) string {
			if x.Doubt == nil {
				return ""
			}
			return replay.Stamp(end(x.Doubt))
		})
	}
	return []render.Column[replay.Holding]{
		column("allocation", func(x replay.Holding) string { return x.Allocation.String() }),
		column("address", func(x replay.Holding) string { return x.Address.String() }),
		column("pool", func(x replay.Holding) string { return x.Pool.Name }),
		column("pool_id", func(x replay.Holding) string { return x.Pool.ID.String() }),
		column("subnet", func(x replay.Holding) string { return prefix(x.Pool.Subnet) }),
		column("space", func(x replay.Holding) string { return string(x.Pool.Space) }),
		column("kind", func(x replay.Holding) string { return x.Kind.String() }),
		column("host", func(x replay.Holding) string { return x.Host }),
		column("mac", func(x replay.Holding) string { return x.MAC.String() }),
		column("endpoint", func(x replay.Holding) string { return x.Endpoint }),
		container("container_id", func(c *replay.Container) *string { return &c.ID }),
		container("container_name", func(c *replay.Container) *string { return c.Name }),
		container("container_image", func(c *replay.Container) *string { return c.Image }),
		container("container_image_id", func(c *replay.Container) *string { return c.ImageID }),
		network("network_id", func(n *replay.Network) *string { return &n.ID }),
		network("network_name", func(n *replay.Network) *string { return n.Name }),
		column("from", func(x replay.Holding) string { return replay.Stamp(x.From.Time) }),
		column("to", func(x replay.Holding) string { return replay.Stamp(x.To.Time) }),
		column("from_revision", func(x replay.Holding) string { return revision(x.From.Revision) }),
		column("to_revision", func(x replay.Holding) string { return revision(x.To.Revision) }),
		column("end", func(x replay.Holding) string { return string(x.End) }),
		column("clock_suspect", func(x replay.Holding) string { return strconv.FormatBool(x.ClockSuspect()) }),
		column("why", func(x replay.Holding) string { return x.Why }),
		// Either end of a doubt may be open, and even both: that there is one stands for
		// itself. Where none is told it is not false: nobody looked, unless a moment was
		// asked about.
		column("clock_doubt", func(x replay.Holding) string {
			if x.Doubt == nil {
				return ""
			}
			return "true"
		}),
		doubt("clock_doubt_from", func(d *replay.Doubt) time.Time { return d.From }),
		doubt("clock_doubt_to", func(d *replay.Doubt) time.Time { return d.To }),
	}
}

// Changes are the columns of changes of hands: those of both holdings, which are
// [Holdings] or what became of them, but for the address, which is the same.
func Changes(holdings []render.Column[replay.Holding]) []render.Column[replay.Change] {
	columns := []render.Column[replay.Change]{
		{Name: "address", Value: func(x replay.Change) string { return x.Address.String() }},
		{Name: "change", Value: func(x replay.Change) string { return x.Change }},
	}
	for _, side := range []struct {
		name string
		of   func(replay.Change) *replay.Holding
	}{
		{"before_", func(x replay.Change) *replay.Holding { return x.Before }},
		{"after_", func(x replay.Change) *replay.Holding { return x.After }},
	} {
		for _, c := range render.Within(holdings, side.of) {
			if c.Name != "address" {
				c.Name = side.name + c.Name
				columns = append(columns, c)
			}
		}
	}
	return columns
}

func text(known *string) string {
	if known == nil {
		return ""
	}
	return *known
}

func revision(r int64) string {
	if r == 0 {
		return ""
	}
	return strconv.FormatInt(r, 10)
}

func prefix(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}
