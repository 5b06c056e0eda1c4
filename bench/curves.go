// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cockroachdb/errors"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// curve is what a request costs over something that grows: all as ratios to bare puts
// that were measured in turns with it.
type curve struct {
	name   string // of the file
	title  string
	over   string
	log    bool // the axis of what grows
	series []series
}

type series struct {
	what   string
	figure func(sample) float64
	points []point
}

type point struct {
	x          float64
	ours, base *side
}

// The series of a curve: what one client waits, what one of many does, and what a
// request costs.
const (
	lonely = iota
	crowded
	costing
)

func newCurve(name, title, over string) *curve {
	return &curve{name: name, title: title, over: over, series: []series{
		{what: "p50, 1 client", figure: p50},
		{what: fmt.Sprintf("p50, %d clients", crowdClients), figure: p50},
		{what: fmt.Sprintf("CPU each, %d clients", crowdClients), figure: cpu},
	}}
}

// measure adds a point: a pool beside puts.
func (c *curve) measure(b *bench, x float64, p *pool) error {
	one, err := b.compare(1, b.puts(), b.asked(p))
	if err != nil {
		return err
	}
	many, err := b.compare(crowdClients, b.puts(), b.asked(p))
	if err != nil {
		return err
	}
	c.add(lonely, point{x, one[1], one[0]})
	c.add(crowded, point{x, many[1], many[0]})
	c.add(costing, point{x, many[1], many[0]})
	return nil
}

func (c *curve) add(i int, p point) { c.series[i].points = append(c.series[i].points, p) }

// drawCurves measures what a request costs over fill and over hosts, and draws it.
func drawCurves(ctx context.Context, f flags, dir string, r *report) error {
	return onDaemon(ctx, f, filepath.Join(dir, "main"), "bench", func(b *bench) error { return b.drawCurves(r) })
}

func (b *bench) drawCurves(r *report) error {
	fill, err := b.overFill()
	if err != nil {
		return err
	}
	hosts, err := b.overHosts()
	if err != nil {
		return err
	}
	curves := []*curve{fill, hosts}
	if r.overLog != nil {
		curves = append(curves, r.overLog)
	}
	if err := os.MkdirAll(b.curves, 0o755); err != nil {
		return errors.Wrap(err, "make a directory for the curves")
	}
	var found []finding
	for _, c := range curves {
		if err := errors.CombineErrors(c.draw(b.curves), c.table(b.curves)); err != nil {
			return err
		}
		found = append(found, c.ends()...)
	}
	return r.add("What a request costs, as a ratio to bare puts in turns with it, where each curve begins and where it ends.", found...)
}

func (b *bench) overFill() (*curve, error) {
	c := newCurve("fill", "A request to a /16 as it fills", "% full")
	p, err := b.makePool("", "10.3.0.0/16", "")
	if err != nil {
		return nil, err
	}
	for _, percent := range []float64{0, 10, 25, 50, 75, 90, 95, 99, 99.9} {
		progress("%g %% full", percent)
		if err := b.fillUp(p, int(usable*percent/100)); err != nil {
			return nil, err
		}
		if err := c.measure(b, percent, p); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (b *bench) overHosts() (*curve, error) {
	c := &curve{name: "hosts", title: "A request to one pool, as hosts share it", over: "hosts, a client each, all on this machine", series: []series{
		{what: "p50", figure: p50}, {what: "CPU each, of all processes", figure: cpu}, {what: "CPU each, of one daemon", figure: nil},
	}}
	for _, n := range []int{1, 2, 4, 8, 16} {
		bare, ours, err := b.measureHosts(n)
		if err != nil {
			return nil, err
		}
		for i := range c.series {
			c.add(i, point{float64(n), ours, bare})
		}
	}
	return c, nil
}

// ratio is the point's figure of ours, as a ratio to that of the bare puts.
func (s series) ratio(p point) spread {
	if s.figure == nil { // what the daemons had, shared among them, beside all that a put cost
		ratios := make([]float64, 0, len(p.ours.samples))
		for i, one := range p.ours.samples {
			ratios = append(ratios, hostsCPU(one)/p.x/cpu(p.base.samples[i]))
		}
		return spreadOf(ratios)
	}
	return p.ours.to(p.base, s.figure)
}

// ends are how a curve begins and ends.
func (c *curve) ends() []finding {
	var found []finding
	for _, s := range c.series {
		a, z := s.points[0], s.points[len(s.points)-1]
		first, last := s.ratio(a), s.ratio(z)
		found = append(found, finding{
			What: c.title + ": " + s.what,
			Figure: fmt.Sprintf("%.2f (%.2f to %.2f) at %g, %.2f (%.2f to %.2f) at %g %s", first.Median, first.Least, first.Most, a.x,
				last.Median, last.Least, last.Most, z.x, c.over),
		})
	}
	return found
}

// draw makes an SVG of the curve.
func (c *curve) draw(dir string) error {
	p := plot.New()
	p.Title.Text = c.title
	p.X.Label.Text = c.over
	p.Y.Label.Text = "× a bare put"
	p.Y.Min = 0
	p.Legend.Top = true
	p.Add(plotter.NewGrid())
	if c.log {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: 0}
	}
	for i, s := range c.series {
		at := spots{XYs: make(plotter.XYs, len(s.points)), YErrors: make(plotter.YErrors, len(s.points))}
		for k, one := range s.points {
			ratio := s.ratio(one)
			at.XYs[k] = plotter.XY{X: one.x, Y: ratio.Median}
			at.YErrors[k].Low, at.YErrors[k].High = ratio.Median-ratio.Least, ratio.Most-ratio.Median
			p.Y.Max = max(p.Y.Max, ratio.Most)
		}
		line, dots, err := plotter.NewLinePoints(at)
		if err != nil {
			return errors.Wrapf(err, "draw %s", c.name)
		}
		bars, err := plotter.NewYErrorBars(at)
		if err != nil {
			return errors.Wrapf(err, "draw %s", c.name)
		}
		line.Color, dots.Color, bars.Color = plotutil.Color(i), plotutil.Color(i), plotutil.Color(i)
		dots.Shape = plotutil.Shape(i)
		p.Add(line, dots, bars)
		p.Legend.Add(s.what, line, dots)
	}
	return errors.Wrapf(p.Save(16*vg.Centimeter, 10*vg.Centimeter, filepath.Join(dir, c.name+".svg")), "draw %s", c.name)
}

// spots are points with how far rounds were from them.
type spots struct {
	plotter.XYs
	plotter.YErrors
}

// table keeps the curve's figures as CSV.
func (c *curve) table(dir string) error {
	f, err := os.Create(filepath.Join(dir, c.name+".csv"))
	if err != nil {
		return errors.Wrapf(err, "keep the figures of %s", c.name)
	}
	out := csv.NewWriter(f)
	_ = out.Write([]string{c.over, "what", "ratio", "least", "most", "seconds", "seconds of a bare put"}) // Flush tells
	for _, s := range c.series {
		for _, p := range s.points {
			ratio := s.ratio(p)
			line := []string{fmt.Sprint(p.x), s.what}
			for _, v := range []float64{ratio.Median, ratio.Least, ratio.Most} {
				line = append(line, fmt.Sprintf("%.4f", v))
			}
			if s.figure != nil {
				line = append(line, fmt.Sprintf("%.6f", p.ours.over(s.figure).Median), fmt.Sprintf("%.6f", p.base.over(s.figure).Median))
			}
			_ = out.Write(line)
		}
	}
	out.Flush()
	return errors.Wrapf(errors.CombineErrors(out.Error(), f.Close()), "keep the figures of %s", c.name)
}
