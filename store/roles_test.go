// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// The users that docs/security.md makes, and their passwords here.
const (
	daemonUser, daemonPassword = "ipamlog-daemon", "may-write-7f3a"
	readerUser, readerPassword = "ipamlog-reader", "may-read-91bc"
)

// TestRoles has a daemon and readers work with the roles of docs/security.md, on
// an etcd that knows users.
func TestRoles(t *testing.T) {
	dir := shortDir(t)
	program := filepath.Join(dir, "ipamlog")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "..").CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, out)
	}
	ca, key := certificate(t, dir, "ca", nil, nil)
	for _, name := range []string{"server", "root", "tool", readerUser} {
		certificate(t, dir, name, ca, key)
	}
	cluster := etcdWithUsers(t, dir)
	admin := dialAs(t, dir, cluster, "root", "", "")
	grantAsDocumented(t, admin)

	// What every use of the program here has in common. The certificate of "tool"
	// opens the connection, and is no user of etcd.
	environ := func(home, certificate string, more ...string) []string {
		at := filepath.Join(dir, certificate)
		return append([]string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + home, "IPAMLOG_CONFIG=", "IPAMLOG_DATA_DIR=" + home,
			"IPAMLOG_CLUSTER_STORE=" + cluster, "IPAMLOG_CACERT=" + filepath.Join(dir, "ca.pem"), "IPAMLOG_CERT=" + at + ".pem", "IPAMLOG_KEY=" + at + ".key",
		}, more...)
	}
	passwordFile := func(password string) string {
		path := filepath.Join(shortDir(t), "password")
		if err := os.WriteFile(path, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	reader := func(home string) []string {
		return environ(home, "tool", "IPAMLOG_USER="+readerUser, "IPAMLOG_PASSWORD="+readerPassword)
	}

	t.Run("a reader on a store without a log begins none", func(t *testing.T) {
		refusedOnce(t, program, reader(shortDir(t)), "start `ipamlog serve` on it once", "who", "10.50.0.2")
		refusedOnce(t, program, reader(shortDir(t)), "permission", "ip-range", "--ip-start", "10.50.0.8/24", "--ip-end", "10.50.0.9/24")
		daemonRefused(t, program, reader(shortDir(t)))
	})

	home := shortDir(t)
	served := serve(t, program, environ(home, "tool", "IPAMLOG_USER="+daemonUser, "IPAMLOG_PASSWORD_FILE="+passwordFile(daemonPassword)), home)
	pool := served.ask(t, "/IpamDriver.RequestPool", `{"AddressSpace":"ipamlog-local","Pool":"10.50.0.0/24"}`, "PoolID")
	served.ask(t, "/IpamDriver.RequestAddress", `{"PoolID":"`+pool+`","Options":{"RequestAddressType":"com.docker.network.gateway"}}`, "Address")
	address := served.ask(t, "/IpamDriver.RequestAddress", `{"PoolID":"`+pool+`"}`, "Address")
	served.ask(t, "/IpamDriver.ReleaseAddress", `{"PoolID":"`+pool+`","Address":"`+strings.TrimSuffix(address, "/24")+`"}`, "")

	t.Run("a reader reads", func(t *testing.T) {
		flows := filepath.Join(shortDir(t), "flows.csv")
		if err := os.WriteFile(flows, []byte("time,src\n2026-01-01T00:00:00Z,10.50.0.1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		commands := [][]string{
			{"pools"},
			{"holders", "10.50.0.0/24"},
			{"who", "10.50.0.1"},
			{"history", "10.50.0.2"},
			{"history", "10.50.0.0/24"},
			{"replay"},
			{"diff", "10.50.0.0/24", "@1", "now"},
			{"tail"},
			{"verify"},
			{"export"},
			{"export", "--events"},
			{"enrich", flows, "--time", "time", "--ip", "src"},
		}
		for name, env := range map[string][]string{
			"password in the environment": reader(shortDir(t)),
			"password in a file":          environ(shortDir(t), "tool", "IPAMLOG_USER="+readerUser, "IPAMLOG_PASSWORD_FILE="+passwordFile(readerPassword)),
			"certificate alone":           environ(shortDir(t), readerUser),
		} {
			t.Run(name, func(t *testing.T) {
				for _, args := range commands {
					if out, errs, err := run(t, program, env, args...); err != nil || out+errs == "" {
						t.Errorf("%q: %v\n%s%s", args, err, out, errs)
					}
				}
			})
		}
		follow(t, program, reader(shortDir(t)))
	})

	t.Run("a reader writes nothing", func(t *testing.T) {
		for _, args := range [][]string{
			{"reserve", "10.50.0.9", "--why", "test"},
			{"ip-range", "--ip-start", "10.50.0.8/24", "--ip-end", "10.50.0.9/24"},
			{"release-ip", "--ip", "10.50.0.1", "--force"},
		} {
			refusedOnce(t, program, reader(shortDir(t)), "give the user the role it needs", args...)
		}
		daemonRefused(t, program, reader(shortDir(t)))
		writesNothing(t, admin, dialAs(t, dir, cluster, "tool", readerUser, readerPassword))
	})

	t.Run("no password, no answer", func(t *testing.T) {
		refusedOnce(t, program, environ(shortDir(t), "tool"), "permission", "who", "10.50.0.1")
		refusedOnce(t, program, environ(shortDir(t), "tool", "IPAMLOG_USER="+readerUser, "IPAMLOG_PASSWORD=hunter2"), "authentication failed", "who", "10.50.0.1")
	})

	t.Run("passwords are in no log and on no command line", func(t *testing.T) {
		line, err := os.ReadFile("/proc/" + served.pid() + "/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		log := served.stop(t)
		if !bytes.Contains(line, []byte("--debug")) || !bytes.Contains(log, []byte(`"call":"RequestAddress"`)) {
			t.Errorf("these are not the log and the command line of the daemon: %q\n%s", line, log)
		}
		for _, secret := range []string{daemonPassword, readerPassword} {
			if bytes.Contains(log, []byte(secret)) || bytes.Contains(line, []byte(secret)) {
				t.Errorf("%q is shown by %q or in\n%s", secret, line, log)
			}
		}
	})

	t.Run("a daemon that may write no more", func(t *testing.T) {
		daemonRefused(t, program, reader(home))
	})
}

// etcdWithUsers runs an etcd of one member on loopback, with TLS and client
// certificates, and returns its endpoint. Users are told by their password, or by
// the name in their certificate.
func etcdWithUsers(t *testing.T, dir string) string {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(dir, "etcd")
	local := url.URL{Scheme: "https", Host: "127.0.0.1:0"}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{local}, []url.URL{local}
	cfg.ListenPeerUrls = nil
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "unix", Host: "no-peers"}}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ClientTLSInfo = transport.TLSInfo{
		CertFile: filepath.Join(dir, "server.pem"), KeyFile: filepath.Join(dir, "server.key"),
		TrustedCAFile: filepath.Join(dir, "ca.pem"), ClientCertAuth: true,
	}
	cfg.TickMs, cfg.ElectionMs, cfg.UnsafeNoFsync = 10, 100, true
	cfg.BcryptCost = 4 // the race detector makes passwords that are well kept a matter of seconds
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	<-etcd.Server.ReadyNotify()
	return "https://" + etcd.Clients[0].Addr().String()
}

// dialAs is a client with a certificate, and a user's password if there is one.
func dialAs(t *testing.T, dir, endpoint, certificate, user, password string) *clientv3.Client {
	t.Helper()
	at := filepath.Join(dir, certificate)
	info := transport.TLSInfo{CertFile: at + ".pem", KeyFile: at + ".key", TrustedCAFile: filepath.Join(dir, "ca.pem"), Logger: zap.NewNop()}
	security, err := info.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: security, Username: user, Password: password, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// grantAsDocumented does through the API what the etcdctl commands of
// docs/security.md do, in their order.
func grantAsDocumented(t *testing.T, admin *clientv3.Client) {
	t.Helper()
	page, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	passwords := map[string]string{daemonUser: daemonPassword, readerUser: readerPassword, "root": "all-is-mine-0d55"}
	ctx, done := t.Context(), 0
	for line := range strings.Lines(string(page)) {
		words := strings.Fields(line)
		if len(words) < 3 || words[0] != "etcdctl" {
			continue
		}
		done++
		err := errNoSuchCommand
		switch args := words[3:]; words[1] + " " + words[2] {
		case "role add":
			_, err = admin.RoleAdd(ctx, args[0])
		case "role grant-permission":
			if args[0] != "--prefix" || args[3] != etcdlog.DefaultPrefix {
				break
			}
			kind, known := map[string]clientv3.PermissionType{
				"read":      clientv3.PermissionType(clientv3.PermRead),
				"readwrite": clientv3.PermissionType(clientv3.PermReadWrite),
			}[args[2]]
			if known {
				_, err = admin.RoleGrantPermission(ctx, args[1], args[3], clientv3.GetPrefixRangeEnd(args[3]), kind)
			}
		case "user add":
			_, err = admin.UserAdd(ctx, args[0], passwords[args[0]])
		case "user grant-role":
			_, err = admin.UserGrantRole(ctx, args[0], args[1])
		case "auth enable":
			_, err = admin.AuthEnable(ctx)
		}
		if err != nil {
			t.Fatalf("%s: %v", strings.TrimSpace(line), err)
		}
	}
	if done < 9 {
		t.Fatalf("docs/security.md has %d commands for etcdctl", done)
	}
}

// errNoSuchCommand is for a command of the documentation that this test cannot do.
var errNoSuchCommand = errors.New("this test does not know the command")

// writesNothing tries with a reader's credentials what changes something in etcd,
// past all our code.
func writesNothing(t *testing.T, admin, reader *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	all, err := admin.Get(ctx, etcdlog.DefaultPrefix, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, kv := range all.Kvs {
		k := string(kv.Key)
		kinds[strings.Split(strings.TrimPrefix(k, etcdlog.DefaultPrefix), "/")[0]] = true
		_, put := reader.Put(ctx, k, "x")
		_, deleted := reader.Delete(ctx, k)
		_, txn := reader.Txn(ctx).Then(clientv3.OpPut(k, "x")).Commit()
		for how, err := range map[string]error{"put": put, "delete": deleted, "txn": txn} {
			if err == nil || !strings.Contains(err.Error(), "permission denied") {
				t.Errorf("%s of %s: %v", how, k, err)
			}
		}
		if kv.Lease != 0 {
			if _, err := reader.Revoke(ctx, clientv3.LeaseID(kv.Lease)); err == nil || !strings.Contains(err.Error(), "permission denied") {
				t.Errorf("revoke the lease of %s: %v", k, err)
			}
		}
	}
	for _, kind := range []string{"log", "heads", "held", "grants", "pools", "hosts", "alive", "meta"} {
		if !kinds[kind] {
			t.Errorf("the daemon has written nothing below %s/", kind)
		}
	}
	_, beside := reader.Get(ctx, "/elsewhere")
	_, create := reader.Put(ctx, etcdlog.DefaultPrefix+"log/x/y", "x")
	_, users := reader.UserList(ctx)
	_, grant := reader.RoleGrantPermission(ctx, readerUser, etcdlog.DefaultPrefix, clientv3.GetPrefixRangeEnd(etcdlog.DefaultPrefix), clientv3.PermissionType(clientv3.PermReadWrite))
	_, off := reader.AuthDisable(ctx)
	_, snapshot := snapshotOf(ctx, reader)
	for what, err := range map[string]error{
		"read beside the prefix": beside, "a new key": create, "list the users": users, "take the right to write": grant,
		"disable users": off, "take a snapshot": snapshot,
	} {
		if err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: %v", what, err)
		}
	}
	after, err := admin.Get(ctx, etcdlog.DefaultPrefix, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if len(after.Kvs) != len(all.Kvs) {
		t.Errorf("%d keys before, %d after", len(all.Kvs), len(after.Kvs))
	}
}

func snapshotOf(ctx context.Context, c *clientv3.Client) (int64, error) {
	r, err := c.Snapshot(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.Close() }()
	return io.Copy(io.Discard, r)
}

// run runs the program to its end.
func run(t *testing.T, program string, environ []string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = environ, &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// refusedOnce runs what is to be refused with one sentence.
func refusedOnce(t *testing.T, program string, environ []string, want string, args ...string) {
	t.Helper()
	out, said, err := run(t, program, environ, args...)
	oneSentence(t, strings.Join(args, " "), said, want)
	if err == nil || out != "" {
		t.Errorf("%q: %v, printed %q", args, err, out)
	}
}

func oneSentence(t *testing.T, what, said, want string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(said, "\n"), "\n")
	last := lines[len(lines)-1]
	if !strings.HasPrefix(last, "ipamlog: ") || !strings.Contains(last, want) || len(last) > 400 {
		t.Errorf("%s: said %q, want a sentence with %q", what, said, want)
	}
	for _, secret := range []string{daemonPassword, readerPassword, "hunter2"} {
		if strings.Contains(said, secret) {
			t.Errorf("%s: a password is shown: %q", what, said)
		}
	}
}

// daemonRefused starts a daemon that may not write, and sees it give up.
func daemonRefused(t *testing.T, program string, environ []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "serve", "--socket", filepath.Join(shortDir(t), "s"), "--host", "h2", "--engine", "off", "--listen", "off")
	cmd.Env, cmd.Stderr = environ, &said
	if err := cmd.Run(); err == nil || ctx.Err() != nil {
		t.Errorf("the daemon did not give up: %v", err)
	}
	oneSentence(t, "serve", said.String(), "permission")
}

// follow sees that a reader's credentials are enough for a watch.
func follow(t *testing.T, program string, environ []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "tail", "-f", "-o", "jsonl")
	cmd.Env = environ
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, released := bufio.NewScanner(out), false
	for !released && lines.Scan() {
		released = strings.Contains(lines.Text(), `"address.released"`)
	}
	if !released {
		t.Errorf("tail -f did not come to the release: %v", lines.Err())
	}
	cancel()
	_ = cmd.Wait()
}

// daemonProcess is a daemon that serves.
type daemonProcess struct {
	cmd    *exec.Cmd
	client *http.Client
	log    *bytes.Buffer
}

// serve starts a daemon with all that it has to say, and waits for its socket.
func serve(t *testing.T, program string, environ []string, dir string) *daemonProcess {
	t.Helper()
	socket := filepath.Join(dir, "s")
	d := &daemonProcess{log: &bytes.Buffer{}}
	d.cmd = exec.CommandContext(t.Context(), program, "serve", "--debug", "--socket", socket, "--host", "h1", "--engine", "off", "--listen", "off")
	d.cmd.Env, d.cmd.Stderr = environ, d.log
	d.cmd.Cancel = func() error { return d.cmd.Process.Signal(syscall.SIGTERM) }
	d.cmd.WaitDelay = time.Minute
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	words := bufio.NewReader(out)
	if first, err := words.ReadString('\n'); err != nil {
		_ = d.cmd.Wait()
		t.Fatalf("the daemon said %q (%v) and\n%s", first, err, d.log)
	}
	go func() { _, _ = io.Copy(io.Discard, words) }()
	t.Cleanup(func() { d.stop(t) })
	d.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	return d
}

func (d *daemonProcess) pid() string { return strconv.Itoa(d.cmd.Process.Pid) }

// stop ends the daemon and returns its log.
func (d *daemonProcess) stop(t *testing.T) []byte {
	t.Helper()
	if d.cmd.ProcessState == nil {
		d.client.CloseIdleConnections()
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		if err := d.cmd.Wait(); err != nil {
			t.Errorf("the daemon ended with %v:\n%s", err, d.log)
		}
	}
	return d.log.Bytes()
}

// ask sends a request as Docker does, and returns a field of the answer.
func (d *daemonProcess) ask(t *testing.T, call, body, field string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://plugin"+call, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer := map[string]any{}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v %v", call, resp.Status, answer, err)
	}
	text, _ := answer[field].(string)
	return text
}
