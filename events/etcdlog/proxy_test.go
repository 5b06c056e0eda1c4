// SPDX-License-Identifier: Apache-2.0

package etcdlog_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// proxy stands between a client and etcd, and loses what it is told to lose. It
// reads the HTTP/2 frames that pass, so that it can tell one request from the
// rest, and knows when its answer is on the way: that is when it was done.
type proxy struct {
	tb      testing.TB
	backend string
	socket  string
	ln      net.Listener
	wg      sync.WaitGroup

	mu      sync.Mutex
	open    *sync.Cond // told when shut becomes false
	shut    bool       // nobody is let in
	closing bool
	links   map[*link]bool
	word    []byte // what a request must hold for the rule to be about it
	rule    rule
	struck  chan struct{} // a token for each request that the rule met
	kept    []*link       // whose request is held back
}

type rule int

const (
	pass          rule = iota
	loseAnswer         // the next such request is done, and its answer cut off with the connection
	swallowAll         // every such request is done, and its connection then silent
	keepOneAndCut      // the next such request does not arrive until deliver, and its connection is cut
	keepAll            // none arrives until deliver, and its connection is silent
)

// link is one client's connection.
type link struct {
	client, server net.Conn

	mu       sync.Mutex
	asked    uint32 // the stream whose request the rule met
	lose     bool   // cut when its answer comes
	silent   bool   // the client hears nothing any more
	keeping  bool   // the server hears nothing any more
	request  []byte // the frame that was kept
	answered chan struct{}
	died     bool // set before answered is closed
}

func newProxy(tb testing.TB, endpoint string) *proxy {
	tb.Helper()
	dir, err := os.MkdirTemp("", "proxy")
	if err != nil {
		tb.Fatal(err)
	}
	p := &proxy{
		tb: tb, backend: strings.TrimPrefix(endpoint, "unix://"), socket: filepath.Join(dir, "s"),
		links: map[*link]bool{}, struck: make(chan struct{}, 1000),
	}
	p.open = sync.NewCond(&p.mu)
	if p.ln, err = net.Listen("unix", p.socket); err != nil {
		tb.Fatal(err)
	}
	p.wg.Go(p.accept)
	tb.Cleanup(func() {
		p.mu.Lock()
		p.closing = true
		p.mu.Unlock()
		p.open.Broadcast()
		_ = p.ln.Close()
		p.cut()
		p.wg.Wait()
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	return p
}

func (p *proxy) endpoint() string { return "unix://" + p.socket }

// set makes a rule for requests that hold a word.
func (p *proxy) set(r rule, word string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule, p.word = r, []byte(word)
}

// shutOut cuts all connections and lets nobody in until letIn.
func (p *proxy) shutOut() {
	p.mu.Lock()
	p.shut = true
	p.mu.Unlock()
	p.cut()
}

func (p *proxy) letIn() {
	p.mu.Lock()
	p.shut = false
	p.mu.Unlock()
	p.open.Broadcast()
}

// cut ends all connections, but for the servers' end of those whose request is kept.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		_ = l.client.Close()
		if p.closing || !l.keeps() {
			_ = l.server.Close()
		}
	}
}

// deliver lets the requests that were kept arrive, and returns when each was
// answered.
func (p *proxy) deliver() {
	p.tb.Helper()
	p.mu.Lock()
	kept := p.kept
	p.kept = nil
	p.mu.Unlock()
	if len(kept) == 0 {
		p.tb.Fatal("no request was kept")
	}
	for _, l := range kept {
		if _, err := l.server.Write(l.request); err != nil {
			p.tb.Fatal(err)
		}
		<-l.answered
		if l.died {
			p.tb.Fatal("the request arrived after its own deadline")
		}
	}
}

func (p *proxy) accept() {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		for p.shut && !p.closing {
			p.open.Wait()
		}
		server, err := net.Dial("unix", p.backend)
		if err != nil || p.closing {
			_ = client.Close() // etcd is away
			if server != nil {
				_ = server.Close()
			}
			p.mu.Unlock()
			continue
		}
		l := &link{client: client, server: server, answered: make(chan struct{})}
		p.links[l] = true
		p.wg.Go(func() { p.upstream(l) })
		p.wg.Go(func() { p.downstream(l) })
		p.mu.Unlock()
	}
}

const (
	frameData  = 0
	frameReset = 3
	endStream  = 1
)

// frame reads one HTTP/2 frame, with its header.
func frame(r io.Reader) (whole []byte, kind, flags byte, stream uint32, err error) {
	head := make([]byte, 9)
	if _, err = io.ReadFull(r, head); err != nil {
		return nil, 0, 0, 0, err
	}
	length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	whole = make([]byte, len(head)+length)
	copy(whole, head)
	_, err = io.ReadFull(r, whole[9:])
	return whole, head[3], head[4], binary.BigEndian.Uint32(head[5:9]), err
}

func (p *proxy) upstream(l *link) {
	defer func() {
		_ = l.client.Close()
		if !l.keeps() {
			_ = l.server.Close()
		}
	}()
	preface := make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	if _, err := io.ReadFull(l.client, preface); err != nil {
		return
	}
	if _, err := l.server.Write(preface); err != nil {
		return
	}
	for {
		whole, kind, flags, stream, err := frame(l.client)
		if err != nil {
			return
		}
		if kind == frameData && flags&endStream != 0 && p.meets(l, whole, stream) {
			return
		}
		if l.keeps() {
			continue // what comes after a request that was kept, such as its cancellation
		}
		if _, err := l.server.Write(whole); err != nil {
			return
		}
	}
}

// meets applies the rule to a request. It returns true when the client is to be
// cut off at once.
func (p *proxy) meets(l *link, request []byte, stream uint32) (cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rule == pass || !bytes.Contains(request, p.word) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked != 0 {
		return false // behind another of its kind
	}
	l.asked = stream
	switch p.rule {
	case loseAnswer:
		l.lose, p.rule = true, pass
	case swallowAll:
		l.silent = true
	case keepOneAndCut:
		l.keeping, l.request, cut, p.rule = true, request, true, pass
		p.kept = append(p.kept, l)
	case keepAll:
		l.keeping, l.request, l.silent = true, request, true
		p.kept = append(p.kept, l)
	}
	p.struck <- struct{}{}
	return cut
}

func (p *proxy) downstream(l *link) {
	answered := sync.OnceFunc(func() { close(l.answered) })
	defer func() {
		answered() // or never will be
		_ = l.client.Close()
		_ = l.server.Close()
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
	}()
	for {
		whole, kind, flags, stream, err := frame(l.server)
		if err != nil {
			return
		}
		l.mu.Lock()
		ours := l.asked != 0 && stream == l.asked
		lose, silent := ours && l.lose, l.silent || l.keeping
		l.mu.Unlock()
		if lose {
			return
		}
		switch {
		case ours && kind == frameReset:
			l.died = true
			answered()
		case ours && flags&endStream != 0:
			answered()
		}
		if silent {
			continue
		}
		if _, err := l.client.Write(whole); err != nil {
			return
		}
	}
}

func (l *link) keeps() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keeping
}
