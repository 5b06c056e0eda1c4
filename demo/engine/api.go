// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"net/netip"
	"regexp"
	"sync"
	"time"
)

// APIVersion is that of the engine's API which [API] has some questions of.
const APIVersion = "1.52"

// API is the little of Docker's API that tells whose an address is: networks,
// containers and events. It answers for containers that somebody pretends to run.
// Safe for concurrent use.
type API struct {
	mu         sync.Mutex
	networks   map[string]*network   // by ID
	containers map[string]*container // by ID
	told       []event
	more       chan struct{} // closed when another was told
}

type network struct {
	Name, ID, Driver, Scope string
	IPAM                    struct {
		Driver  string
		Options map[string]string
		Config  []map[string]string
	}
	Containers map[string]attached
}

type attached struct{ Name, EndpointID, MacAddress, IPv4Address, IPv6Address string }

type container struct {
	ID      string
	Names   []string
	Name    string
	Image   string
	ImageID string
	Labels  map[string]string
	State   string
}

type event struct {
	Type, Action string
	Actor        struct {
		ID         string
		Attributes map[string]string
	}
	Time     int64 `json:"time"`
	TimeNano int64 `json:"timeNano"`
}

// NewAPI returns the API of an engine that has nothing yet.
func NewAPI() *API {
	return &API{networks: map[string]*network{}, containers: map[string]*container{}, more: make(chan struct{})}
}

// id is one as Docker has them: 64 hexadecimal digits.
func id(of string) string {
	sum := sha256.Sum256([]byte(of))
	return hex.EncodeToString(sum[:])
}

// CreateNetwork makes a network whose addresses an IPAM driver gives, and returns
// its ID.
func (a *API) CreateNetwork(name, driver, subnet, gateway string, options map[string]string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := &network{Name: name, ID: id("network " + name), Driver: "bridge", Scope: "local", Containers: map[string]attached{}}
	n.IPAM.Driver, n.IPAM.Options = driver, options
	n.IPAM.Config = []map[string]string{{"Subnet": subnet, "Gateway": gateway}}
	a.networks[n.ID] = n
	a.tell("network", "create", n.ID, map[string]string{"name": name, "type": n.Driver})
	return n.ID
}

// Run makes a container, and returns its ID.
func (a *API) Run(name, image string, labels map[string]string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := &container{
		ID: id("container " + name), Names: []string{"/" + name}, Name: "/" + name,
		Image: image, ImageID: "sha256:" + id("image "+image), Labels: labels,
	}
	a.containers[c.ID] = c
	attributes := map[string]string{"name": name, "image": image}
	maps.Copy(attributes, labels)
	a.tell("container", "create", c.ID, attributes)
	return c.ID
}

// Connect attaches a container to a network.
func (a *API) Connect(networkID, containerID, mac string, address netip.Prefix) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, c := a.networks[networkID], a.containers[containerID]
	n.Containers[c.ID] = attached{
		Name: c.Names[0][1:], EndpointID: id("endpoint " + mac), MacAddress: mac, IPv4Address: address.String(),
	}
	c.State = "running"
	a.tell("network", "connect", n.ID, map[string]string{"container": c.ID, "name": n.Name, "type": n.Driver})
}

// Disconnect takes a container off a network.
func (a *API) Disconnect(networkID, containerID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, c := a.networks[networkID], a.containers[containerID]
	delete(n.Containers, c.ID)
	c.State = "exited"
	a.tell("network", "disconnect", n.ID, map[string]string{"container": c.ID, "name": n.Name, "type": n.Driver})
}

func (a *API) tell(kind, action, about string, attributes map[string]string) {
	now := time.Now()
	e := event{Type: kind, Action: action, Time: now.Unix(), TimeNano: now.UnixNano()}
	e.Actor.ID, e.Actor.Attributes = about, attributes
	a.told = append(a.told, e)
	close(a.more)
	a.more = make(chan struct{})
}

var versioned = regexp.MustCompile(`^/v[0-9.]+/`)

// ServeHTTP implements [http.Handler].
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", APIVersion)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_ping", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("OK")) })
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, map[string]string{"Version": "29.0.0", "ApiVersion": APIVersion, "MinAPIVersion": "1.44"}, true)
	})
	mux.HandleFunc("GET /networks", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, values(a, a.networks), true) })
	mux.HandleFunc("GET /networks/{id}", func(w http.ResponseWriter, r *http.Request) { answerOne(w, a, a.networks, r.PathValue("id")) })
	mux.HandleFunc("GET /containers/json", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, values(a, a.containers), true) })
	mux.HandleFunc("GET /containers/{id}/json", func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		c, ok := a.containers[r.PathValue("id")]
		if !ok {
			answerJSON(w, map[string]string{"message": "No such container"}, false)
			return
		}
		answerJSON(w, map[string]any{
			"Id": c.ID, "Name": c.Name, "Image": c.ImageID, "Config": map[string]any{"Image": c.Image, "Labels": c.Labels},
		}, true)
	})
	mux.HandleFunc("GET /events", a.events)
	r.URL.Path = versioned.ReplaceAllString(r.URL.Path, "/")
	mux.ServeHTTP(w, r)
}

func values[T any](a *API, all map[string]*T) []T {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := []T{}
	for _, v := range all {
		list = append(list, *v)
	}
	return list
}

func answerOne[T any](w http.ResponseWriter, a *API, all map[string]*T, id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	v, ok := all[id]
	if !ok {
		answerJSON(w, map[string]string{"message": "not found"}, false)
		return
	}
	answerJSON(w, v, true)
}

func answerJSON(w http.ResponseWriter, v any, found bool) {
	text, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if !found {
		w.WriteHeader(http.StatusNotFound)
	}
	_, _ = w.Write(text) // who has gone needs no answer
}

// events tells all that happened and what happens, until the client goes.
func (a *API) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	out := json.NewEncoder(w)
	for next := 0; ; {
		a.mu.Lock()
		told, more := a.told[next:], a.more
		a.mu.Unlock()
		for _, e := range told {
			if err := out.Encode(e); err != nil {
				return
			}
		}
		next += len(told)
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
	}
}
