// SPDX-License-Identifier: Apache-2.0

package model

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// slice is how long a core works on one thing while others wait.
	slice = 200 * time.Microsecond
	// hopeless is how many things wait at most: a queue this long never ends.
	hopeless = 20_000
)

// Outcome is what came of a simulation.
type Outcome struct {
	Rate           float64 // commits a second
	Mean, P50, P99 time.Duration
	Busy           float64 // the part of the cores that was used
	Together       float64 // commits in a flush
	// Saturated says that the queue only grew: the times mean nothing then.
	Saturated bool
}

// Run simulates a site until so many commits have been answered, after a tenth as many that
// are not looked at.
func Run(s Site, c Costs, commits int, seed uint64) Outcome {
	e := &etcd{site: s, costs: c, random: rand.New(rand.NewPCG(seed, 0)), idle: s.Cores, before: commits / 10}
	e.begin()
	for len(e.took) < commits && !e.saturated() && e.due.Len() > 0 {
		next := heap.Pop(&e.due).(event)
		e.now = next.at
		next.do()
	}
	return e.outcome()
}

// etcd is the server, and the clock of the simulation. Times are since its begin.
type etcd struct {
	site   Site
	costs  Costs
	random *rand.Rand

	now time.Duration
	due timetable
	n   int // events so far: those of one moment happen in their order

	queue []*job // what waits for a core
	idle  int    // cores

	flushing bool
	written  []time.Duration // when they came: commits that wait for the disk

	before        int // commits still to answer that are not looked at
	began         time.Duration
	worked        time.Duration // of all cores, since began
	flushes, with int           // since began, and the commits in them
	took          []time.Duration
}

// job is something that a core does.
type job struct {
	left time.Duration
	done func()
}

func (e *etcd) saturated() bool { return len(e.queue) > hopeless || len(e.written) > hopeless }

func (e *etcd) begin() {
	s := e.site
	if s.Loop {
		for range s.Hosts {
			e.send()
		}
	} else if rate := s.Events(); rate > 0 {
		e.stream(rate, e.send)
	}
	e.stream(float64(s.Hosts)/leaseEvery.Seconds(), func() { e.work(e.costs.KeepAlive, nil) })
	if s.Index > 0 {
		reading := s.reading(e.costs)
		e.stream(s.keepers()/s.Index.Seconds(), func() { e.work(reading, nil) })
	}
}

// stream does something again and again, at random moments.
func (e *etcd) stream(rate float64, do func()) {
	pause := func() time.Duration { return time.Duration(e.random.ExpFloat64() / rate * float64(time.Second)) }
	var next func()
	next = func() {
		do()
		e.after(pause(), next)
	}
	e.after(pause(), next)
}

// send has a commit arrive.
func (e *etcd) send() {
	came := e.now
	e.work(e.costs.Commit, func() {
		e.written = append(e.written, came)
		e.flush()
	})
}

// flush makes durable what has been written.
func (e *etcd) flush() {
	if e.flushing || len(e.written) == 0 {
		return
	}
	e.flushing = true
	together := e.written
	e.written = nil
	e.flushes++
	e.with += len(together)
	e.work(e.costs.Flush, func() {
		e.after(e.costs.Disk, func() {
			e.flushing = false
			for _, came := range together {
				e.answer(came)
			}
			e.flush()
		})
	})
}

// answer answers a commit, and tells of it who watches.
func (e *etcd) answer(came time.Duration) {
	elsewhere := e.costs.Away + e.costs.Decided
	if e.before > 0 {
		if e.before--; e.before == 0 {
			e.began, e.worked, e.flushes, e.with = e.now, 0, 0, 0
		}
	} else {
		e.took = append(e.took, e.now-came+elsewhere)
	}
	e.work(time.Duration(e.site.watchers())*e.costs.Delivery, nil)
	if e.site.Loop {
		e.after(elsewhere, e.send)
	}
}

// work has the cores do something, in its turn.
func (e *etcd) work(cost time.Duration, done func()) {
	if cost <= 0 {
		if done != nil {
			done()
		}
		return
	}
	e.queue = append(e.queue, &job{cost, done})
	e.turn()
}

// turn gives idle cores to what waits.
func (e *etcd) turn() {
	for e.idle > 0 && len(e.queue) > 0 {
		j := e.queue[0]
		e.queue = e.queue[1:]
		e.idle--
		part := min(j.left, slice)
		e.after(part, func() {
			e.idle++
			e.worked += part
			if j.left -= part; j.left > 0 {
				e.queue = append(e.queue, j)
			} else if j.done != nil {
				j.done()
			}
			e.turn()
		})
	}
}

func (e *etcd) outcome() Outcome {
	o := Outcome{Saturated: e.saturated()}
	if lasted := (e.now - e.began).Seconds(); lasted > 0 {
		o.Rate = float64(len(e.took)) / lasted
		o.Busy = e.worked.Seconds() / lasted / float64(e.site.Cores)
	}
	if e.flushes > 0 {
		o.Together = float64(e.with) / float64(e.flushes)
	}
	if n := len(e.took); n > 0 {
		var sum time.Duration
		for _, t := range e.took {
			sum += t
		}
		slices.Sort(e.took)
		o.Mean, o.P50, o.P99 = sum/time.Duration(n), e.took[n/2], e.took[min(n*99/100, n-1)]
	}
	return o
}

// event is something that happens at a moment.
type event struct {
	at time.Duration
	n  int
	do func()
}

func (e *etcd) after(d time.Duration, do func()) {
	e.n++
	heap.Push(&e.due, event{e.now + d, e.n, do})
}

// timetable is a heap of what is to happen.
type timetable []event

// Len implements [heap.Interface].
func (t timetable) Len() int { return len(t) }

// Less implements [heap.Interface].
func (t timetable) Less(i, k int) bool {
	return t[i].at < t[k].at || t[i].at == t[k].at && t[i].n < t[k].n
}

// Swap implements [heap.Interface].
func (t timetable) Swap(i, k int) { t[i], t[k] = t[k], t[i] }

// Push implements [heap.Interface].
func (t *timetable) Push(x any) { *t = append(*t, x.(event)) }

// Pop implements [heap.Interface].
func (t *timetable) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}
