// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipamlog/ipamlog/lab"
)

// predecessor answers an engine as oam-docker-ipam does, and returns what stops it.
// Containers get next, and those after it.
func (s *site) predecessor(t *testing.T, next netip.Addr) (stop func()) {
	t.Helper()
	if err := os.MkdirAll(s.PluginDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(s.PluginDir(), "talkingdata.sock"))
	if err != nil {
		t.Fatal(err)
	}
	var pool netip.Prefix
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request struct{ Pool, Address string }
		_ = json.NewDecoder(r.Body).Decode(&request) // some have no body
		answer := object{}
		switch filepath.Base(r.URL.Path) {
		case "Plugin.Activate":
			answer["Implements"] = []string{"IpamDriver"}
		case "IpamDriver.GetCapabilities":
			answer["RequiresMACAddress"] = true
		case "IpamDriver.RequestPool":
			pool, _ = netip.ParsePrefix(request.Pool)
			answer["PoolID"], answer["Pool"] = pool.Addr().String(), request.Pool
		case "IpamDriver.RequestAddress":
			if request.Address == "" { // a container's, and not a gateway's
				request.Address, next = next.String(), next.Next()
			}
			answer["Address"] = fmt.Sprintf("%s/%d", request.Address, pool.Bits())
		}
		_ = json.NewEncoder(w).Encode(answer) // the engine may have gone
	})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // until it is closed
	}()
	stop = func() {
		_ = server.Close()
		<-ended
	}
	t.Cleanup(stop)
	return stop
}

// dumped is where hosts find one of the dumps that are kept with those who read
// them.
func dumped(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "legacy", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// imports takes a dump over as people are told to: with a look at what would be
// done before, and once too often. It returns what was said.
func (s *site) imports(t *testing.T, args ...string) string {
	t.Helper()
	log := func() string { return s.succeeds(t, "tail", "-o", "jsonl") }
	before := log()
	foretold := s.succeeds(t, append(args, "--dry-run")...)
	if now := log(); now != before {
		t.Errorf("a dry run wrote: before\n%s\nafter\n%s", before, now)
	}
	said := s.succeeds(t, args...)
	as := strings.NewReplacer("is to be made", "was made", "to be reserved", "reserved", "to be given to hosts", "given to hosts")
	if said != as.Replace(foretold) {
		t.Errorf("it did\n%s\nand foretold\n%s", said, foretold)
	}
	before = log()
	s.succeeds(t, args...)
	if now := log(); now != before {
		t.Errorf("the import again wrote: before\n%s\nafter\n%s", before, now)
	}
	return said
}

// reserved fails the test unless the log tells that an address is kept out of use,
// and why, whoever asks for what.
func (s *site) reserved(t *testing.T, address, pool, why string) {
	t.Helper()
	for _, question := range [][]string{{"holders", pool}, {"who", address}, {"history", address}} {
		found := false
		for line := range strings.Lines(s.succeeds(t, question...)) {
			found = found || strings.HasPrefix(line, address+" ") && strings.Contains(line, "reserved") && strings.Contains(line, why)
		}
		if !found {
			t.Errorf("ipamlog %q does not tell that %s is reserved: %s", question, address, why)
		}
	}
}

// fill takes all that a pool still gives, and returns it sorted.
func (s *site) fill(t *testing.T, subnet, sub string) (given []netip.Addr) {
	t.Helper()
	pool, err := s.plugin(t).call(t.Context(), "RequestPool", object{"AddressSpace": "ipamlog-local", "Pool": subnet, "SubPool": sub})
	if err != nil {
		t.Fatal(err)
	}
	for {
		answer, err := s.plugin(t).call(t.Context(), "RequestAddress", object{"PoolID": pool.PoolID})
		if err != nil {
			if !strings.Contains(err.Error(), "No available addresses") {
				t.Error(err)
			}
			slices.SortFunc(given, netip.Addr.Compare)
			return given
		}
		given = append(given, netip.MustParsePrefix(answer.Address).Addr())
	}
}

// stretch fails the test unless exactly these addresses were given: those of a
// network of 24 bits from one last byte to another, but for some.
func stretch(t *testing.T, given []netip.Addr, net string, first, last int, except ...int) {
	t.Helper()
	var want []netip.Addr
	for i := first; i <= last; i++ {
		if !slices.Contains(except, i) {
			want = append(want, sharedNet{net}.address(i))
		}
	}
	if d := diff(want, given); d != "" {
		t.Errorf("(-what is free +what was given out):\n%s", d)
	}
}

// TestImport moves hosts over from what they had before.
func TestImport(t *testing.T) {
	t.Parallel()
	t.Run("oam-docker-ipam", importOAM)
	t.Run("kvipamdriver", importKVIPAM)
	t.Run("Docker", importDocker)
}

// importOAM moves a host over on which oam-docker-ipam has made the network and
// two containers run.
func importOAM(t *testing.T) {
	t.Parallel()
	const pool = "172.16.16.0/20"
	l := lab.New(t)
	router := netip.MustParsePrefix("172.16.16.1/20")
	l.Router(router)
	s := newSite(t, l, "a")
	stop := s.predecessor(t, netip.MustParseAddr("172.16.21.100"))
	lab.StartEngines(t, s.Host)
	s.MustDocker(t, "network", "create", "--opt=com.docker.network.bridge.enable_icc=true", "--opt=com.docker.network.bridge.enable_ip_masquerade=false",
		"--opt=com.docker.network.bridge.host_binding_ipv4=0.0.0.0", "--opt=com.docker.network.bridge.name=br0", "--opt=com.docker.network.driver.mtu=1500",
		"--ipam-driver=talkingdata", "--subnet="+pool, "--gateway=172.16.20.54", "--aux-address=DefaultGatewayIPv4=172.16.16.1", "mynet")
	s.MustExec(t, "ip", "link", "set", "eth0", "master", "br0")
	s.run(t, "c1", "mynet")
	s.run(t, "c2", "mynet")

	s.start(t) // beside it
	dump := dumped(t, "oam.json")
	if said := s.imports(t, "import", dump); said != "pool 172.16.16.0/20 was made: addresses reserved: 3, given to hosts: 2, there already: 0\n" {
		t.Errorf("it says %s", said)
	}
	s.reserved(t, "172.16.21.100", pool, "imported from oam-docker-ipam")
	owners := func() []string {
		return slices.DeleteFunc(s.holds(t), func(h string) bool { return !strings.HasPrefix(h, "host ") })
	}
	if d := diff([]string{"host 172.16.20.54 ", "host 172.16.20.55 "}, owners()); d != "" { // nobody knows whose
		t.Errorf("after the import (-want +log):\n%s", d)
	}

	o := s.ipamlog(t, "create-network", "--uplink", "eth0")
	if o.status != 1 || !strings.Contains(o.stderr, "IPAM driver talkingdata: remove it with `docker network rm mynet`") {
		t.Errorf("with the old network there, status %d: %s", o.status, o.stderr)
	}
	s.MustDocker(t, "rm", "-f", "c1", "c2")
	s.MustDocker(t, "network", "rm", "mynet") // br0 goes with it
	stop()
	if err := s.AddAddress(netip.MustParsePrefix("172.16.20.54/20")); err != nil {
		t.Fatal(err)
	}
	if err := s.SetGateway(router.Addr()); err != nil {
		t.Fatal(err)
	}
	t.Log(s.succeeds(t, "create-network"))
	if d := diff([]string{"host 172.16.20.54 a", "host 172.16.20.55 "}, owners()); d != "" {
		t.Errorf("after create-network (-want +log):\n%s", d)
	}
	s.uplinkKept(t, "after create-network", router.Addr(), "172.16.20.54/20", s.Addr().String()+"/24")

	// Containers come back with another address, or with the one they had.
	s.run(t, "c1", "mynet")
	if c1, _ := s.addresses(t, "c1", "mynet"); c1.String() != "172.16.21.102" {
		t.Errorf("c1 has %s, and 172.16.21.102 is the first that is free", c1)
	}
	s.refused(t, []string{"172.16.21.101", "imported from oam-docker-ipam"}, "run", "--rm", "--network", "mynet", "--ip", "172.16.21.101", lab.Image, "true")
	s.succeeds(t, "unreserve", "172.16.21.101")
	s.run(t, "c2", "mynet", "--ip", "172.16.21.101")
	s.ping(t, "c1", netip.MustParseAddr("172.16.21.101"))
	s.ping(t, "c2", router.Addr())

	stretch(t, s.fill(t, pool, ""), "172.16.21", 100, 120, 100, 117, 101, 102) // two reserved, two of the containers
	s.succeeds(t, "unreserve", "172.16.21.117")
	stretch(t, s.fill(t, pool, ""), "172.16.21", 117, 117)

	// The dump tells no longer how things are.
	o = s.ipamlog(t, "import", dump)
	if o.status != 1 || !strings.Contains(o.stderr, "nothing was imported") || !strings.Contains(o.stderr, "172.16.21.101") {
		t.Errorf("the import long after: status %d: %s%s", o.status, o.stdout, o.stderr)
	}
}

// importKVIPAM takes over a dump that has one subnet in both spaces.
func importKVIPAM(t *testing.T) {
	t.Parallel()
	const pool = "10.0.0.0/24"
	s := startSite(t, lab.New(t), "a")
	dump := dumped(t, "consul-export.json")
	if o := s.ipamlog(t, "import", dump); o.status != 1 || !strings.Contains(o.stderr, "10.0.0.0/24 (global) and 10.0.0.0/24 (local)") {
		t.Errorf("a subnet in two spaces: status %d: %s%s", o.status, o.stdout, o.stderr)
	}
	for _, wrong := range []string{"10.0.0.0/23", "global/10.1.0.0/16", "10.0.0.0"} {
		if o := s.ipamlog(t, "import", dump, "--leave-out", wrong); o.status != 2 {
			t.Errorf("--leave-out %s: status %d: %s%s", wrong, o.status, o.stdout, o.stderr)
		}
	}
	if said := s.imports(t, "import", dump, "--leave-out", "global/10.0.0.0/24"); !strings.Contains(said, "pool 10.0.0.0/24 was made: addresses reserved: 69,") {
		t.Errorf("it says %s", said)
	}
	s.reserved(t, "10.0.0.130", pool, "imported from kvipamdriver")

	// The networks are made anew, and one of those addresses was their gateway's.
	network := []string{"--subnet", pool, "--ip-range", "10.0.0.192/26", "--gateway", "10.0.0.1"}
	s.refused(t, []string{"10.0.0.1 ", "imported from kvipamdriver"}, append(append([]string{"network", "create", "--ipam-driver", driver}, network...), "web")...)
	s.succeeds(t, "unreserve", "10.0.0.1")
	s.create(t, "web", network...)
	s.run(t, "c1", "web")
	c1, _ := s.addresses(t, "c1", "web")
	own := int(c1.As4()[3])
	stretch(t, s.fill(t, pool, "10.0.0.192/26"), "10.0.0", 196, 254, own)
	s.succeeds(t, "unreserve", "10.0.0.128-10.0.0.195")
	stretch(t, s.fill(t, pool, ""), "10.0.0", 128, 195)
}

// importDocker takes over a network of Docker's own, with the containers on it.
func importDocker(t *testing.T) {
	t.Parallel()
	const pool = "10.60.0.0/24"
	s := startSite(t, lab.New(t), "a")
	network := []string{"--subnet", pool, "--gateway", "10.60.0.1", "--aux-address", "printer=10.60.0.200"}
	s.MustDocker(t, append(append([]string{"network", "create"}, network...), "shop")...)
	s.run(t, "s1", "shop")
	s.run(t, "s2", "shop")
	dump := filepath.Join(s.Dir(), "dump.json")
	if err := os.WriteFile(dump, []byte(s.MustDocker(t, "network", "inspect", "shop")), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := s.imports(t, "import", dump); said != "pool 10.60.0.0/24 was made: addresses reserved: 4, given to hosts: 0, there already: 0\n" {
		t.Errorf("it says %s", said)
	}
	s.reserved(t, "10.60.0.1", pool, "imported from docker: gateway, network shop")
	s.reserved(t, "10.60.0.2", pool, "container s1, 02:42:0a:3c:00:02")
	s.reserved(t, "10.60.0.200", pool, "auxiliary printer")

	s.MustDocker(t, "rm", "-f", "s1", "s2")
	s.MustDocker(t, "network", "rm", "shop")
	s.succeeds(t, "unreserve", "10.60.0.1")
	s.succeeds(t, "unreserve", "10.60.0.200")
	s.create(t, "shop", network...)
	s.run(t, "s1", "shop")
	if s1, _ := s.addresses(t, "s1", "shop"); s1.String() != "10.60.0.4" {
		t.Errorf("s1 has %s, and 10.60.0.4 is the first that is free", s1)
	}
	s.succeeds(t, "unreserve", "10.60.0.2-10.60.0.3")
	s.run(t, "s2", "shop", "--ip", "10.60.0.2")
	s.ping(t, "s2", netip.MustParseAddr("10.60.0.4"))
}
