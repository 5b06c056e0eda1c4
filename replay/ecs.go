// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/render"
)

// ecsVersion is the version of the Elastic Common Schema that [ECS] follows.
const ecsVersion = "8.11.0"

// ECS is an event in the words of the Elastic Common Schema, as a SIEM takes it.
// What the schema has no word for stands below "ipamlog", and the event itself, as
// tail prints it, in event.original.
//
// It says what the log had told up to the event, not what came later: read again,
// an event is the same document, and the same event.id.
type ECS struct {
	Timestamp string        `json:"@timestamp"`
	Message   string        `json:"message"`
	Schema    ecsSchema     `json:"ecs"`
	Event     ecsEvent      `json:"event"`
	Host      *ecsNamed     `json:"host,omitempty"`
	Client    *ecsEnd       `json:"client,omitempty"`
	Source    *ecsEnd       `json:"source,omitempty"`
	Container *ecsContainer `json:"container,omitempty"`
	Network   *ecsNamed     `json:"network,omitempty"`
	Related   *ecsRelated   `json:"related,omitempty"`
	Own       ecsOwn        `json:"ipamlog"`
}

type ecsSchema struct {
	Version string `json:"version"`
}

type ecsNamed struct {
	Name string `json:"name"`
}

type ecsEvent struct {
	ID       string   `json:"id"`
	Kind     string   `json:"kind"`
	Category []string `json:"category,omitempty"`
	Type     []string `json:"type"`
	Action   string   `json:"action"`
	Outcome  string   `json:"outcome,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	Provider string   `json:"provider"`
	Module   string   `json:"module"`
	Dataset  string   `json:"dataset"`
	Sequence int64    `json:"sequence"`
	Created  string   `json:"created"`
	Start    string   `json:"start,omitempty"`
	End      string   `json:"end,omitempty"`
	Duration int64    `json:"duration,omitempty"` // nanoseconds
	Original string   `json:"original"`
}

// ecsEnd is an end of a connection: who has the address begins them.
type ecsEnd struct {
	Address string     `json:"address"`
	IP      netip.Addr `json:"ip"`
	MAC     string     `json:"mac,omitempty"`
}

type ecsContainer struct {
	ID      string            `json:"id"`
	Name    string            `json:"name,omitempty"`
	Image   *ecsImage         `json:"image,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Runtime string            `json:"runtime"`
}

type ecsImage struct {
	Name string   `json:"name,omitempty"`
	Hash *ecsHash `json:"hash,omitempty"`
}

type ecsHash struct {
	All []string `json:"all"`
}

type ecsRelated struct {
	IP    []netip.Addr `json:"ip,omitempty"`
	Hosts []string     `json:"hosts,omitempty"`
	Hash  []string     `json:"hash,omitempty"`
}

type ecsPool struct {
	ID     string        `json:"id"`
	Name   string        `json:"name,omitempty"`
	Subnet *netip.Prefix `json:"subnet,omitempty"`
	Space  events.Space  `json:"space,omitempty"`
}

type ecsOwn struct {
	Revision     int64         `json:"revision"`
	Index        int           `json:"index"`
	Commit       string        `json:"commit"`
	Stream       events.Stream `json:"stream"`
	Writer       string        `json:"writer"` // the host that wrote it
	ClockSuspect bool          `json:"clock_suspect,omitempty"`
	Pool         *ecsPool      `json:"pool,omitempty"`
	Grant        string        `json:"grant,omitempty"`
	Allocation   string        `json:"allocation,omitempty"`
	Holder       string        `json:"holder,omitempty"` // the allocation that is in the way
	Kind         string        `json:"kind,omitempty"`
	Endpoint     string        `json:"endpoint,omitempty"`
	EndpointID   string        `json:"endpoint_id,omitempty"`
	NetworkID    string        `json:"network_id,omitempty"`
	Machine      string        `json:"machine,omitempty"`
	Incarnation  uint64        `json:"incarnation,omitempty"`
	By           string        `json:"by,omitempty"` // the host where the operator was
}

// The categories and types of the schema that are used.
var (
	ecsNetwork  = []string{"network"}
	ecsConfig   = []string{"configuration"}
	ecsHosts    = []string{"host"}
	ecsStart    = []string{"start"}
	ecsStop     = []string{"end"}
	ecsInfo     = []string{"info"}
	ecsDenied   = []string{"denied"}
	ecsChange   = []string{"change"}
	ecsCreation = []string{"creation"}
	ecsDeletion = []string{"deletion"}
)

// ECS returns an event of this history in the words of the Elastic Common Schema.
func (h *History) ECS(e Event) (ECS, error) {
	raw, err := render.JSONLine(e)
	if err != nil {
		return ECS{}, err
	}
	r := e.Record
	doc := ECS{
		Timestamp: Stamp(h.happened(r)),
		Schema:    ecsSchema{ecsVersion},
		Event: ecsEvent{
			ID: fmt.Sprintf("%s.%d", r.ID, e.Index), Kind: "event", Action: e.Event().Type(), Outcome: "success",
			Provider: "ipamlog", Module: "ipamlog", Dataset: "ipamlog.events",
			Sequence: r.Revision, Created: Stamp(r.Time), Original: string(raw),
		},
		Own: ecsOwn{
			Revision: r.Revision, Index: e.Index, Commit: r.ID.String(), Stream: r.Stream,
			Writer: r.Host, ClockSuspect: r.ClockSuspect, Pool: poolOf(e.Pool),
		},
	}
	doc.say(h, e)
	if doc.Host == nil && r.Host != "" {
		doc.Host = &ecsNamed{r.Host}
	}
	doc.relate(r.Host)
	doc.Message = render.Line(doc.Message) // prose is read, by terminals too
	return doc, nil
}

// happened is when a record was written. A clock in 2038 would put it where nobody
// looks for it: then it is the time that the others' clocks had.
func (h *History) happened(r events.Record) time.Time {
	if running := h.timeline.Running(r.Revision); r.ClockSuspect && !running.IsZero() {
		return running
	}
	return r.Time
}

func poolOf(p *projection.PoolLife) *ecsPool {
	if p == nil {
		return nil
	}
	return &ecsPool{ID: p.ID.String(), Name: p.Name, Subnet: known(p.Subnet), Space: p.Space}
}

// say puts in what the event itself tells.
func (doc *ECS) say(h *History, e Event) {
	is := func(category, kind []string, message ...string) {
		doc.Event.Category, doc.Event.Type = category, kind
		doc.Message = strings.Join(slices.DeleteFunc(message, func(word string) bool { return word == "" }), " ")
	}
	pool := ""
	if e.Pool != nil {
		pool = Title(e.Pool)
	}
	grant := func(id events.ID, host string) {
		doc.Own.Grant = id.String()
		if host != "" {
			doc.Host = &ecsNamed{host}
		}
	}
	switch event := e.Event().(type) {
	case events.PoolCreated:
		is(ecsConfig, ecsCreation, "pool", pool, "created")
	case events.PoolChanged:
		is(ecsConfig, ecsChange, "pool", pool, "has other ranges")
	case events.PoolRetired:
		is(ecsConfig, ecsDeletion, "pool", pool, "retired")
	case events.PoolExhausted:
		is(ecsNetwork, ecsDenied, "pool", pool, "has no free address")
		doc.Event.Outcome, doc.Event.Reason = "failure", "no available addresses"
		if !event.Grant.IsZero() {
			grant(event.Grant, "")
		}
	case events.GrantOpened:
		is(ecsNetwork, ecsStart, "pool", pool, "is used by", event.Host)
		grant(event.Grant, event.Host)
	case events.GrantReopened:
		is(ecsNetwork, ecsStart, "pool", pool, "is used again by", event.Host)
		grant(event.Grant, event.Host)
	case events.GrantClosing:
		is(ecsNetwork, ecsInfo, "a network's use of pool", pool, "is ending")
		grant(event.Grant, "")
	case events.GrantClosed:
		is(ecsNetwork, ecsStop, "a network's use of pool", pool, "has ended")
		grant(event.Grant, "")
	case events.AddressAllocated:
		x := doc.hold(h, e, event.Allocation, event.Address)
		is(ecsNetwork, ecsStart, event.Address.String(), "allocated to", hand(x))
	case events.AddressAttributed:
		x := doc.hold(h, e, event.Allocation, event.Address)
		is(ecsNetwork, ecsInfo, event.Address.String(), "is the address of", hand(x))
	case events.AddressReleased:
		x := doc.hold(h, e, event.Allocation, event.Address)
		how := "given back by"
		if event.Reason == events.TakenOver {
			how = "taken over from"
		}
		is(ecsNetwork, ecsStop, event.Address.String(), how, hand(x))
		doc.Event.Reason = string(event.Reason)
		doc.end(x)
	case events.AddressSuspected:
		x := doc.hold(h, e, event.Allocation, event.Address)
		is(ecsNetwork, ecsInfo, event.Address.String(), "suspected: the engine does not know", hand(x))
	case events.AddressCleared:
		x := doc.hold(h, e, event.Allocation, event.Address)
		is(ecsNetwork, ecsInfo, event.Address.String(), "suspected no more:", hand(x), "is there")
	case events.AddressReclaimed:
		x := doc.hold(h, e, event.Allocation, event.Address)
		is(ecsNetwork, ecsStop, event.Address.String(), "reclaimed: the engine does not know", hand(x))
		doc.Event.Reason = string(events.Reclaim)
		doc.end(x)
	case events.AddressConflicted:
		doc.conflict(event)
		is(ecsNetwork, ecsInfo, event.Address.String(), "is used by", user(event), "and held by another")
		doc.Event.Outcome, doc.Event.Reason = "failure", "the address is held by another"
	case events.AddressReserved:
		doc.hold(h, e, event.Allocation, event.Address)
		is(ecsConfig, ecsCreation, event.Address.String(), "reserved:", event.Why)
		doc.Event.Reason = event.Why
	case events.AddressUnreserved:
		x := doc.hold(h, e, event.Allocation, event.Address)
		is(ecsConfig, ecsDeletion, event.Address.String(), "reserved no more")
		doc.end(x)
	case events.HostJoined:
		is(ecsHosts, ecsStart, "host", event.Host, "joined")
		doc.Host = &ecsNamed{event.Host}
		doc.Own.Machine, doc.Own.Incarnation = event.Machine, event.Incarnation
	case events.HostLeft:
		is(ecsHosts, ecsStop, "host", event.Host, "left")
		doc.Host = &ecsNamed{event.Host}
		doc.Own.Incarnation = event.Incarnation
	case events.HostTakenOver:
		is(ecsHosts, ecsChange, "host", event.Host, "is dead, and its addresses are taken over by", event.By)
		doc.Host = &ecsNamed{event.Host}
		doc.Own.Incarnation, doc.Own.By = event.Incarnation, event.By
	case events.HostAdopted:
		is(ecsHosts, ecsChange, "host", event.Host, "is another machine now")
		doc.Host = &ecsNamed{event.Host}
		doc.Own.Machine, doc.Own.Incarnation = event.Machine, event.Incarnation
	case events.Unknown:
		is(nil, ecsInfo, event.Name, "of a newer version")
		doc.Event.Outcome = ""
	}
}

// hand is what people call who holds an address.
func hand(x Holding) string {
	var name string
	switch {
	case x.Container != nil && x.Container.Name != nil:
		name = *x.Container.Name
	case x.Container != nil:
		name = x.Container.ID
	case x.Endpoint != "":
		name = x.Endpoint
	case x.Kind != events.Endpoint:
		name = x.Kind.String()
	default:
		name = "an endpoint"
	}
	if x.Host != "" {
		name += " on " + x.Host
	}
	return name
}

// user is what people call who uses an address that another holds.
func user(e events.AddressConflicted) string {
	return cmp.Or(e.ContainerName, e.ContainerID, "somebody") + " on " + e.Host
}

// conflict puts in who uses an address that another holds: the traffic is of both.
func (doc *ECS) conflict(e events.AddressConflicted) {
	end := ecsEnd{Address: e.Address.String(), IP: e.Address, MAC: ecsMAC(e.MAC)}
	doc.Client, doc.Source = &end, &end
	doc.Host = &ecsNamed{e.Host}
	if e.ContainerID != "" {
		doc.Container = &ecsContainer{ID: e.ContainerID, Name: e.ContainerName, Runtime: "docker"}
	}
	doc.Own.NetworkID = e.NetworkID
	if e.NetworkName != "" {
		doc.Network = &ecsNamed{e.NetworkName}
	}
	if !e.Holder.IsZero() {
		doc.Own.Holder = e.Holder.String()
	}
}

// ecsMAC is a hardware address as the schema has it.
func ecsMAC(m events.MAC) string {
	return strings.ToUpper(strings.ReplaceAll(m.String(), ":", "-"))
}

// hold puts in the address, and what the log had told of its holding by then.
func (doc *ECS) hold(h *History, e Event, allocation events.ID, address netip.Addr) Holding {
	doc.Own.Allocation = allocation.String()
	end := ecsEnd{Address: address.String(), IP: address}
	// The one to whom an address belongs is the client of the flows in other logs,
	// or their source: either field finds it.
	doc.Client, doc.Source = &end, &end
	told, ok := h.timeline.Allocation(allocation)
	if !ok || told.Address != address {
		return Holding{Holding: projection.Holding{Address: address}} // it contradicts the log before it
	}
	then := *told
	then.Told = nil
	for _, t := range told.Told {
		if t.Revision <= e.Record.Revision {
			then.Told = append(then.Told, t)
		}
	}
	x := Moment{Revision: e.Record.Revision}.describe(&then)
	end.MAC = ecsMAC(x.MAC)
	doc.Own.Kind, doc.Own.Endpoint, doc.Own.EndpointID = x.Kind.String(), x.Endpoint, x.endpointID()
	if !x.Grant.IsZero() {
		doc.Own.Grant = x.Grant.String()
	}
	if x.Host != "" {
		doc.Host = &ecsNamed{x.Host}
	}
	if x.Network != nil {
		doc.Own.NetworkID = x.Network.ID
		if x.Network.Name != nil {
			doc.Network = &ecsNamed{*x.Network.Name}
		}
	}
	doc.Container = containerOf(x.Container)
	return x
}

func containerOf(c *Container) *ecsContainer {
	if c == nil {
		return nil
	}
	container := &ecsContainer{ID: c.ID, Labels: undotted(c.Labels), Runtime: "docker"}
	if c.Name != nil {
		container.Name = *c.Name
	}
	if c.Image != nil || c.ImageID != nil {
		container.Image = &ecsImage{}
		if c.Image != nil {
			container.Image.Name = *c.Image
		}
		if c.ImageID != nil {
			container.Image.Hash = &ecsHash{[]string{*c.ImageID}}
		}
	}
	return container
}

// undotted are labels as Beats write them: Elasticsearch takes a.b and a.b.c for an
// object and something in it, and refuses a document that has both.
func undotted(labels map[string]string) map[string]string {
	if len(labels) == 0 {
		return nil
	}
	plain := make(map[string]string, len(labels))
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		plain[strings.ReplaceAll(key, ".", "_")] = labels[key]
	}
	return plain
}

// end puts in from when to when it was held, if the clocks agree.
func (doc *ECS) end(x Holding) {
	if x.To.Revision != doc.Own.Revision {
		return // it had ended before
	}
	if x.Early && !x.To.Suspect {
		doc.Timestamp = Stamp(x.To.Time) // the log learnt of it later
	}
	if x.ClockSuspect() || x.To.Time.Before(x.From.Time) {
		return
	}
	doc.Event.Start, doc.Event.End = Stamp(x.From.Time), Stamp(x.To.Time)
	doc.Event.Duration = int64(x.To.Time.Sub(x.From.Time))
}

// relate gathers what to search for, wherever else it stands.
func (doc *ECS) relate(writer string) {
	var related ecsRelated
	if doc.Client != nil {
		related.IP = []netip.Addr{doc.Client.IP}
	}
	add := func(name string) {
		if name != "" && !slices.Contains(related.Hosts, name) {
			related.Hosts = append(related.Hosts, name)
		}
	}
	if doc.Host != nil {
		add(doc.Host.Name)
	}
	add(writer)
	if c := doc.Container; c != nil {
		add(c.Name)
		if c.Image != nil && c.Image.Hash != nil {
			related.Hash = c.Image.Hash.All
		}
	}
	doc.Related = &related
}
