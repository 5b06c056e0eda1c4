// SPDX-License-Identifier: Apache-2.0

package enrich_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/enrich"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/replaytest"
	"github.com/ipamlog/ipamlog/replay/timespec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = replaytest.Clock(600, 0)

// history is of one pool with so many addresses; each is held by one container
// after the other, ten minutes each from three o'clock on, and is free for five.
func history(addresses, holders int) *replay.History {
	web := events.PoolStream(replaytest.Web)
	timeline := projection.NewTimeline()
	revision := int64(0)
	commit := func(at time.Time, list ...events.Event) {
		revision++
		timeline.Apply(events.Record{Revision: revision, Commit: events.Commit{Stream: web, Time: at, Host: "h1", Writer: "v1", Events: list}})
	}
	commit(replaytest.Clock(-1, 0), events.PoolCreated{Space: events.Local, Name: "web", Subnet: netip.MustParsePrefix("10.50.0.0/16"), Policy: events.DefaultPolicy()})
	id := func(n, turn int) events.ID { return events.ID{2, byte(turn >> 8), byte(turn), byte(n >> 8), byte(n)} }
	for turn := range holders {
		for n := range addresses {
			a := address(n)
			commit(replaytest.Clock(15*turn, 0), events.AddressAllocated{
				Allocation: id(n, turn), Address: a, Kind: events.Endpoint, Host: "h1", MAC: events.MAC{2, 0x42, 10, 50, byte(n >> 8), byte(n)},
			}, events.AddressAttributed{Allocation: id(n, turn), Address: a, Attribution: events.Attribution{
				ContainerID: strings.Repeat("0123456789abcdef", 4), ContainerName: fmt.Sprintf("c%d-%d", n, turn), Image: "nginx:1.27", NetworkID: "n1", NetworkName: "shop",
			}})
		}
		for n := range addresses {
			commit(replaytest.Clock(15*turn+10, 0), events.AddressReleased{Allocation: id(n, turn), Address: address(n), Reason: events.Released})
		}
	}
	return replay.NewHistory(timeline, revision)
}

func address(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 50, byte(n >> 8), byte(n)}) }

// some is a history for tests that care for no more than that there is one.
var some = history(4, 3)

func options(at string, addresses ...string) enrich.Options {
	return enrich.Options{Time: at, Addresses: addresses, History: some, Clock: enrich.Clock{Zone: time.UTC, Now: now}}
}

// failer is a test, of package testing or of rapid.
type failer interface {
	Helper()
	Fatal(args ...any)
	Errorf(format string, args ...any)
}

func join(t failer, in io.Reader, o enrich.Options) (string, enrich.Summary) {
	t.Helper()
	var out bytes.Buffer
	sum, err := enrich.Join(context.Background(), in, &out, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if total := sum.Joined + sum.Nobody + sum.Unreadable(); total != sum.Lines {
		t.Errorf("%d joined, %d not and %d unread are not %d lines", sum.Joined, sum.Nobody, sum.Unreadable(), sum.Lines)
	}
	return out.String(), sum
}

const (
	added  = ",ip_container,ip_container_id,ip_image,ip_host,ip_network,ip_pool,ip_kind,ip_endpoint,ip_holders,ip_clock_doubt"
	held   = ",c1-0,0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef,nginx:1.27,h1,shop,web,endpoint,,1,"
	nobody = ",,,,,,,,,0,"
)

// then is when c1-0 held 10.50.0.1, and after when nobody did.
const then, after = "2025-03-01T03:05:00Z", "2025-03-01T03:12:00Z"

// What a log looks like is found out, and all of it stays as it was.
func TestJoin_csv(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"plain":         {"ts,ip\n" + then + ",10.50.0.1\n", "ts,ip" + added + "\n" + then + ",10.50.0.1" + held + "\n"},
		"no line end":   {"ts,ip\n" + then + ",10.50.0.1", "ts,ip" + added + "\n" + then + ",10.50.0.1" + held},
		"carriage":      {"ts,ip\r\n" + then + ",10.50.0.1\r\n", "ts,ip" + added + "\r\n" + then + ",10.50.0.1" + held + "\r\n"},
		"byte order":    {"\uFEFFts,ip\n" + then + ",10.50.0.1\n", "\uFEFFts,ip" + added + "\n" + then + ",10.50.0.1" + held + "\n"},
		"blank lines":   {"\n\r\nts,ip\n\n" + then + ",10.50.0.1\n\n", "\n\r\nts,ip" + added + "\n\n" + then + ",10.50.0.1" + held + "\n\n"},
		"semicolons":    {"ts;ip\n" + then + ";10.50.0.1\n", strings.ReplaceAll("ts,ip"+added+"\n"+then+",10.50.0.1"+held+"\n", ",", ";")},
		"bars":          {"a|ts|ip\n,|" + then + "|10.50.0.1\n", "a|ts|ip" + strings.ReplaceAll(added, ",", "|") + "\n,|" + then + "|10.50.0.1" + strings.ReplaceAll(held, ",", "|") + "\n"},
		"spaces":        {"ts ip\n" + then + " 10.50.0.1\n", strings.ReplaceAll("ts,ip"+added+"\n"+then+",10.50.0.1"+held+"\n", ",", " ")},
		"quoted":        {`"ts","ip"` + "\n\"" + then + `","10.50.0.1"` + "\n", `"ts","ip"` + added + "\n\"" + then + `","10.50.0.1"` + held + "\n"},
		"doubled":       {"x,ts,ip\n\"a \"\"b\"\", c\"," + then + ",10.50.0.1\n", "x,ts,ip" + added + "\n\"a \"\"b\"\", c\"," + then + ",10.50.0.1" + held + "\n"},
		"lines in cell": {"x,ts,ip\n\"a\r\n\nb\"," + then + ",10.50.0.1\r\n", "x,ts,ip" + added + "\n\"a\r\n\nb\"," + then + ",10.50.0.1" + held + "\r\n"},
		"quote within":  {"x,ts,ip\n5\" disk," + then + ",10.50.0.1\n", "x,ts,ip" + added + "\n5\" disk," + then + ",10.50.0.1" + held + "\n"},
		"nul":           {"x,ts,ip\n\x00," + then + ",10.50.0.1\n", "x,ts,ip" + added + "\n\x00," + then + ",10.50.0.1" + held + "\n"},
		"nobody":        {"ts,ip\n" + after + ",10.50.0.1\n", "ts,ip" + added + "\n" + after + ",10.50.0.1" + nobody + "\n"},
		"empty at last": {"ts,ip,x\n" + then + ",10.50.0.1,\n\"" + then + "\",10.50.0.1,\n", "ts,ip,x" + added + "\n" + then + ",10.50.0.1," + held + "\n\"" + then + "\",10.50.0.1," + held + "\n"},
		"header alone":  {"ts,ip", "ts,ip" + added},
		"nothing":       {"", ""},
		"only blank":    {"\n \n", "\n \n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, sum := join(t, strings.NewReader(c.in), options("ts", "ip"))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if sum.Unreadable() > 0 || sum.Bytes != int64(len(c.in)) {
				t.Errorf("%+v", sum)
			}
			slowly, _ := join(t, iotest.OneByteReader(strings.NewReader(c.in)), options("ts", "ip"))
			if diff := cmp.Diff(c.want, slowly); diff != "" {
				t.Errorf("byte by byte (-want +got):\n%s", diff)
			}
		})
	}
}

// A line that cannot be read stays as it is, and takes no other with it.
func TestJoin_unreadable(t *testing.T) {
	good := then + ",10.50.0.1,x"
	for name, c := range map[string]struct {
		line   string
		reason string
	}{
		"a stray quote":    {`"` + good, "a quote that does not close, or stands where none can"},
		"a quote at last":  {then + `,10.50.0.1,"`, "a quote that does not close, or stands where none can"},
		"behind a quote":   {then + `,"10.50.0.1"x,x`, "a quote that does not close, or stands where none can"},
		"too few":          {then + ",10.50.0.1", "more or fewer fields than the header"},
		"too many":         {good + ",y", "more or fewer fields than the header"},
		"too many, quoted": {good + `,"y"`, "more or fewer fields than the header"},
		"no time":          {"soon,10.50.0.1,x", "the time is not understood"},
		"to come":          {"2025-03-02,10.50.0.1,x", "the time is not understood"},
		"later":            {"2025-03-02T00:00:00Z,10.50.0.1,x", "the time is later than the history"},
		"earlier":          {"2025-03-01T02:58:59Z,10.50.0.1,x", "the time is before the log began"},
		"no milliseconds":  {"202503010311,10.50.0.1,x", "the time is before the log began"},
		"no address":       {then + ",localhost,x", "the address is not understood"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, lines := range []int{0, 3, 30_000} { // the last is more than a chunk
				in := "ts,ip,x\n" + good + "\n" + c.line + "\n" + strings.Repeat(good+"\n", lines)
				want := "ts,ip,x" + added + "\n" + good + held + "\n" + c.line + "\n" + strings.Repeat(good+held+"\n", lines)
				got, sum := join(t, strings.NewReader(in), options("ts", "ip"))
				if got != want {
					t.Errorf("before %d lines: got\n%.600s", lines, got)
				}
				want2 := []enrich.Trouble{{Reason: enrich.Reason(c.reason), Lines: 1, First: 3}}
				if diff := cmp.Diff(want2, sum.Unread); diff != "" {
					t.Errorf("before %d lines (-want +got):\n%s", lines, diff)
				}
			}
		})
	}
}

func TestJoin_json(t *testing.T) {
	const holder = `{"container":"c1-0","container_id":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","image":"nginx:1.27","host":"h1","network":"shop","pool":"web","kind":"endpoint","endpoint":null,"mac":"02:42:0a:32:00:01","allocation":"02000000800000000000000000","from":"2025-03-01T03:00:00.000000Z","to":"2025-03-01T03:10:00.000000Z"}`
	deep := strings.Repeat("[", 20_000)
	for name, c := range map[string]struct{ in, want, reason string }{
		"plain":        {`{"t":"` + then + `","ip":"10.50.0.1"}`, `{"t":"` + then + `","ip":"10.50.0.1","ip_holders":[HELD]}`, ""},
		"spaced":       {` { "ip" : "10.50.0.1" , "t": "` + then + "\" }\t", ` { "ip" : "10.50.0.1" , "t": "` + then + `" ,"ip_holders":[HELD]}` + "\t", ""},
		"escaped":      {`{"t":"2025-03-01T03:05:00\u002B00:00","ip":"10.50.0.1"}`, `{"t":"2025-03-01T03:05:00\u002B00:00","ip":"10.50.0.1","ip_holders":[HELD]}`, ""},
		"number":       {`{"t":1740798300.5,"ip":"10.50.0.1"}`, `{"t":1740798300.5,"ip":"10.50.0.1","ip_holders":[HELD]}`, ""},
		"nobody":       {`{"t":"` + after + `","ip":"10.50.0.1"}`, `{"t":"` + after + `","ip":"10.50.0.1","ip_holders":[]}`, ""},
		"broken":       {`{"t":"` + then + `","ip":"10.50.0.1"`, "", "no JSON object"},
		"trailing":     {`{"t":"` + then + `","ip":"10.50.0.1"} {}`, "", "no JSON object"},
		"array":        {`[{"t":"` + then + `","ip":"10.50.0.1"}]`, "", "no JSON object"},
		"no time":      {`{"ip":"10.50.0.1"}`, "", "a field is missing"},
		"null":         {`{"t":null,"ip":"10.50.0.1"}`, "", "a field is missing"},
		"no address":   {`{"t":"` + then + `"}`, "", "a field is missing"},
		"list":         {`{"t":"` + then + `","ip":["10.50.0.1"]}`, "", "a field is missing"},
		"odd address":  {`{"t":"` + then + `","ip":"x"}`, "", "the address is not understood"},
		"joined":       {`{"t":"` + then + `","ip":"10.50.0.1","ip_holders":[]}`, "", "has been joined already"},
		"escaped join": {`{"t":"` + then + `","ip":"10.50.0.1","ip_\u0068olders":[]}`, "", "has been joined already"},
		"says joined":  {`{"t":"` + then + `","ip":"10.50.0.1","ua":"ip_holders","x":{"ip_holders":1}}`, `{"t":"` + then + `","ip":"10.50.0.1","ua":"ip_holders","x":{"ip_holders":1},"ip_holders":[HELD]}`, ""},
		"nul":          {"{\"t\":\"" + then + "\",\"ip\":\"10.50.0.1\",\"x\":\"\x00\"}", "", "no JSON object"},
		"bottomless":   {`{"t":"` + then + `","ip":"10.50.0.1","x":` + deep + `}`, "", "no JSON object"},
		"bottomless 2": {`{"t":"` + then + `","ip":"10.50.0.1","x":` + deep + strings.Repeat("]", 20_000) + `}`, "", "no JSON object"},
	} {
		t.Run(name, func(t *testing.T) {
			want := c.want
			if c.reason != "" {
				want = c.in
			}
			want = strings.ReplaceAll(want, "HELD", holder)
			for _, end := range []string{"", "\n", "\r\n", "\n\n"} {
				o := options("t", "ip")
				o.Input = enrich.JSONL
				got, sum := join(t, strings.NewReader(c.in+end), o)
				if diff := cmp.Diff(want+end, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				switch {
				case c.reason == "" && len(sum.Unread) > 0, c.reason != "" && (len(sum.Unread) != 1 || string(sum.Unread[0].Reason) != c.reason):
					t.Errorf("unread: %+v, want %q", sum.Unread, c.reason)
				}
			}
		})
	}
}

// Fields may be within objects, or have names with dots; and anything else that
// means something to who looks for them.
func TestJoin_jsonFields(t *testing.T) {
	for in, name := range map[string]string{
		`{"t":1740798300,"a":{"b":{"ip":"10.50.0.1"}}}`: "a.b.ip",
		`{"t":1740798300,"a.b.ip":"10.50.0.1"}`:         "a.b.ip",
		`{"t":1740798300,"@ip":"10.50.0.1"}`:            "@ip",
		`{"t":1740798300,"i*":"10.50.0.1","ip":"x"}`:    "i*",
		`{"t":1740798300,"a":["x","10.50.0.1"]}`:        "a.1",
		`{"t":1740798300,"#":"10.50.0.1"}`:              "#",
		`{"t":1740798300,"a..b":"10.50.0.1"}`:           "a..b",
	} {
		got, sum := join(t, strings.NewReader(in), options("t", name))
		if sum.Joined != 1 || !json.Valid([]byte(got)) {
			t.Errorf("%s by %s: %+v\n%s", in, name, sum, got)
		}
	}
}

func TestJoin_zeek(t *testing.T) {
	types := strings.Repeat("\tstring", 8) + "\tcount\tstring"
	tabs := func(s string) string {
		cells := strings.Split(s, ",")
		for i := range cells {
			if i > 0 && cells[i] == "" {
				cells[i] = "-"
			}
		}
		return strings.Join(cells, "\t")
	}
	names := strings.ReplaceAll(added, ",", "\t")
	in := "#separator \\x09\n#fields\tts\tip\n#types\ttime\taddr\n1740798300.5\t10.50.0.1\n#close\n" +
		"#fields\tip\tx\tts\n#types\taddr\tstring\ttime\n10.50.0.1\t\"\t1740798720\n#other\n"
	want := "#separator \\x09\n#fields\tts\tip" + names + "\n#types\ttime\taddr" + types + "\n1740798300.5\t10.50.0.1" + tabs(held) + "\n#close\n" +
		"#fields\tip\tx\tts" + names + "\n#types\taddr\tstring\ttime" + types + "\n10.50.0.1\t\"\t1740798720" + tabs(nobody) + "\n#other\n"
	for _, r := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in))} {
		got, sum := join(t, r, options("ts", "ip"))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if sum.Lines != 2 || sum.Unreadable() > 0 {
			t.Errorf("%+v", sum)
		}
	}
}

func TestJoin_form(t *testing.T) {
	for in, want := range map[string]string{
		"time,ip\n":                        `the log has no field "ts": name one of time, ip`,
		"ts,src\n":                         `the log has no field "ip": name one of ts, src`,
		"ts,ip,ip\n":                       `the log has several fields "ip": give them names of their own`,
		"ts,ip,ip_image\n":                 `the log has a field "ip_image" already: it has been joined before`,
		`[{"ts":1}]`:                       "the log is one JSON array: write each of its elements on a line, as jq -c '.[]' does",
		"\"\n":                             "the first line is no CSV header: name the form of the log with --input",
		"#separator \\x09\n1\t2\n":         "the log begins as Zeek's do, but has no #fields line with tabs: write the names of the columns there",
		"#fields\tts\n":                    `the log has no field "ip": name one of ts`,
		strings.Repeat("x", 64<<20) + "\n": "the log has no header, only one endless line: name its form with --input",
	} {
		sum, err := enrich.Join(t.Context(), strings.NewReader(in), io.Discard, options("ts", "ip"), nil)
		if !errors.Is(err, enrich.ErrForm) || !strings.HasPrefix(err.Error(), want[:min(len(want), 60)]) && len(in) < 100 || sum.Lines > 0 {
			t.Errorf("%.40q: %v, want %s", in, err, want)
		}
	}
}

// Long lines are joined; endless ones go through.
func TestJoin_long(t *testing.T) {
	long := strings.Repeat("x", 10<<20)
	for _, c := range []struct{ in, want string }{
		{"ts,ip,x\n" + then + ",10.50.0.1," + long + "\n", "ts,ip,x" + added + "\n" + then + ",10.50.0.1," + long + held + "\n"},
		{"ts,ip,x\n" + then + ",10.50.0.1,\"" + long + "\"\n", "ts,ip,x" + added + "\n" + then + ",10.50.0.1,\"" + long + "\"" + held + "\n"},
		{"ts,ip,x\n" + strings.Repeat(long, 15) + "\n" + then + ",10.50.0.1,\n", "ts,ip,x" + added + "\n" + strings.Repeat(long, 15) + "\n" + then + ",10.50.0.1," + held + "\n"},
	} {
		got, sum := join(t, strings.NewReader(c.in), options("ts", "ip"))
		if got != c.want {
			t.Errorf("%d bytes became %d, want %d", len(c.in), len(got), len(c.want))
		}
		if sum.Joined != 1 || sum.Unreadable() > 0 && (sum.Unread[0].First != 2 || sum.Unreadable() != 1) {
			t.Errorf("%+v", sum)
		}
	}
}

// endless is a log of long lines.
type endless struct {
	line  string
	begin int
	read  atomic.Int64
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.line[e.begin:])
	e.begin = (e.begin + n) % len(e.line)
	e.read.Add(int64(n))
	return n, nil
}

// stuck is a writer to whom nobody listens until he goes.
type stuck chan struct{}

func (s stuck) Write([]byte) (int, error) {
	<-s
	return 0, syscall.EPIPE
}

// However long the lines, what is read and not written yet is bounded.
func TestJoin_memory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &endless{line: `{"t":1740798300,"ip":"10.50.0.1","x":"` + strings.Repeat("x", 15<<20) + "\"}\n"}
		out := make(stuck)
		ended := make(chan error)
		o := options("t", "ip")
		go func() {
			_, err := enrich.Join(t.Context(), log, out, o, nil)
			ended <- err
		}()
		synctest.Wait()
		if read, most := log.read.Load()>>20, int64(60+4*runtime.GOMAXPROCS(0)); read > most {
			t.Errorf("%d MiB are under way, want at most %d", read, most)
		}
		close(out)
		if err := <-ended; !errors.Is(err, syscall.EPIPE) {
			t.Error(err)
		}
	})
}

// What a spreadsheet or a terminal would obey is not written by us, and what was
// there stays.
func TestJoin_hostile(t *testing.T) {
	timeline := projection.NewTimeline()
	allocation := replaytest.Allocation(1)
	timeline.Apply(events.Record{Revision: 1, Commit: events.Commit{Stream: events.PoolStream(replaytest.Web), Time: replaytest.Night, Events: []events.Event{
		events.AddressAllocated{Allocation: allocation, Address: address(1), Kind: events.Endpoint, Host: "h1", Endpoint: "a\tb,c;\"d\"\n"},
		events.AddressAttributed{Allocation: allocation, Address: address(1), Attribution: events.Attribution{ContainerID: "1", ContainerName: "=cmd|' /C calc'!A0", Image: "\x1b[31m"}},
	}}})
	o := options("ts", "ip")
	o.History = replay.NewHistory(timeline, 1)
	for in, want := range map[string]string{
		"x,ts,ip\n=1+1," + then + ",10.50.0.1\n":            "=1+1," + then + `,10.50.0.1,'=cmd|' /C calc'!A0,1,\x1b[31m,h1,,,endpoint,"a	b,c;""d""` + "\n" + `",1,` + "\n",
		"x|ts|ip\n=1+1|" + then + "|10.50.0.1\n":            "=1+1|" + then + `|10.50.0.1|"'=cmd|' /C calc'!A0"|1|\x1b[31m|h1|||endpoint|"a	b,c;""d""` + "\n" + `"|1|` + "\n",
		"#fields\tx\tts\tip\n=1\t" + then + "\t10.50.0.1\n": "=1\t" + then + "\t10.50.0.1\t'=cmd|' /C calc'!A0\t1\t\\x1b[31m\th1\t-\t-\tendpoint\ta\\x09b,c;\"d\"\\x0a\t1\t-\n",
	} {
		got, _ := join(t, strings.NewReader(in), o)
		_, got, _ = strings.Cut(got, "\n")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	got, _ := join(t, strings.NewReader(`{"ts":"`+then+`","ip":"10.50.0.1"}`), o)
	if !strings.Contains(got, `"image":"\u001b[31m"`) || !strings.Contains(got, `"endpoint":"a\tb,c;\"d\"\n"`) {
		t.Error(got)
	}
}

// Where the clocks leave open who held an address, the line says so.
func TestJoin_doubt(t *testing.T) {
	timeline := projection.NewTimeline()
	for i, minute := range []int{0, 5, 30, 6, 40} {
		r := events.Record{Revision: int64(i + 1), Commit: events.Commit{Stream: events.PoolStream(replaytest.Web), Time: replaytest.Clock(minute, 0)}}
		switch allocation := replaytest.Allocation(1); i {
		case 1:
			r.Events = []events.Event{events.AddressAllocated{Allocation: allocation, Address: address(1), Kind: events.Endpoint, Host: "h1"}}
		case 3: // by a clock that is far behind
			r.Events = []events.Event{events.AddressReleased{Allocation: allocation, Address: address(1), Reason: events.Released}}
		}
		timeline.Apply(r)
	}
	o := options("ts", "ip")
	o.History = replay.NewHistory(timeline, 5)
	const between = "2025-03-01T03:06:00.000000Z/2025-03-01T03:40:00.000000Z"
	sure, held, free := "2025-03-01T03:05:30Z", "2025-03-01T03:20:00Z", "2025-03-01T03:35:00Z"
	got, sum := join(t, strings.NewReader("ts,ip\n"+sure+",10.50.0.1\n"+held+",10.50.0.1\n"+free+",10.50.0.1\n"), o)
	want := "ts,ip" + added + "\n" + sure + ",10.50.0.1,,,,h1,,,endpoint,,1,\n" +
		held + ",10.50.0.1,,,,h1,,,endpoint,,1," + between + "\n" + free + ",10.50.0.1" + nobody + between + "\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(enrich.Trouble{Lines: 2, First: 3}, sum.Doubtful); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got, _ = join(t, strings.NewReader(`{"ts":"`+free+`","ip":"10.50.0.1"}`), o)
	if want := `{"ts":"` + free + `","ip":"10.50.0.1","ip_holders":[],"ip_clock_doubt":{"from":"2025-03-01T03:06:00.000000Z","to":"2025-03-01T03:40:00.000000Z"}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Whatever the chunks, the lines are those that [replay.History.Who] would give, in
// their order.
func TestJoin_manyChunks(t *testing.T) {
	h := history(300, 20)
	random := rand.New(rand.NewPCG(1, 2))
	var in, want strings.Builder
	in.WriteString("n,ts,src,dst\n")
	for n := range 60_000 {
		at := replaytest.Night.Add(time.Duration(random.Int64N(int64(6 * time.Hour)))).Truncate(time.Microsecond)
		src, dst := address(random.IntN(310)), address(random.IntN(310))
		fmt.Fprintf(&in, "%d,%s,%s,%s\n", n, at.Format(time.RFC3339Nano), src, dst)
		m, err := h.Moment(timespec.Spec{Time: at}, now)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(&want, n)
		for _, a := range []netip.Addr{src, dst} {
			// One in a hundred is compared, for asking takes long.
			name := "?"
			if n%100 == 0 {
				name = ""
				for _, x := range h.Who(a, nil, m).Holdings {
					name += *x.Container.Name
				}
			}
			fmt.Fprint(&want, ",", name)
		}
		fmt.Fprintln(&want)
	}
	o := options("ts", "src", "dst")
	o.History = h
	joined, sum := join(t, strings.NewReader(in.String()), o)
	if sum.Lines != 60_000 || sum.Unreadable() > 0 || sum.Joined == 0 || sum.Nobody == 0 {
		t.Errorf("%+v", sum)
	}
	rows, err := csv.NewReader(strings.NewReader(joined)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for n, row := range rows[1:] {
		src, dst := row[4], row[14]
		if n%100 != 0 {
			src, dst = "?", "?"
		}
		fmt.Fprintf(&got, "%s,%s,%s\n", row[0], src, dst)
	}
	if got.String() != want.String() {
		t.Error("not what who says")
	}
}

func TestUnpack(t *testing.T) {
	const plain = "ts,ip\n" + then + ",10.50.0.1\n"
	pack := func(with func(io.Writer) io.WriteCloser) string {
		var packed bytes.Buffer
		w := with(&packed)
		if _, err := io.WriteString(w, plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return packed.String()
	}
	gz := pack(func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
	zst := pack(func(w io.Writer) io.WriteCloser {
		z, err := zstd.NewWriter(w)
		if err != nil {
			t.Fatal(err)
		}
		return z
	})
	for in, want := range map[string]string{plain: plain, gz: plain, gz + gz: plain + plain, zst: plain, "": "", "x": "x"} {
		r, err := enrich.Unpack(strings.NewReader(in))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || string(got) != want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	r, err := enrich.Unpack(strings.NewReader(gz[:len(gz)-9]))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if _, err := enrich.Join(t.Context(), r, &out, options("ts", "ip"), nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a log that was cut off: %v", err)
	}
}

// A log that is still being written is joined line by line.
func TestJoin_live(t *testing.T) {
	in, log := io.Pipe()
	joined, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := enrich.Join(t.Context(), in, out, options("ts", "ip"), nil)
		_ = out.Close()
		ended <- err
	}()
	read := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(joined, got); err != nil || string(got) != want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	for _, c := range []struct{ in, want string }{
		{"ts,ip\n", "ts,ip" + added + "\n"}, {then + ",10.50", ""}, {".0.1\n" + then, then + ",10.50.0.1" + held + "\n"}, {",x\n", then + ",x\n"},
	} {
		if _, err := io.WriteString(log, c.in); err != nil {
			t.Fatal(err)
		}
		read(c.want)
	}
	_ = log.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// An interrupted joining writes whole lines, all of what it read.
func TestJoin_interrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	in, log := io.Pipe()
	defer log.Close()
	var out strings.Builder
	lines := then + ",10.50.0.1\n" + then + ",10.5"
	sum := enrich.Summary{}
	var err error
	done := make(chan struct{})
	told := make(chan struct{}, 10)
	go func() {
		defer close(done)
		sum, err = enrich.Join(ctx, in, &out, options("ts", "ip"), func(sum enrich.Summary) {
			if sum.Lines > 0 {
				told <- struct{}{}
			}
		})
	}()
	if _, err := io.WriteString(log, "ts,ip\n"+lines); err != nil {
		t.Fatal(err)
	}
	<-told
	cancel()
	<-done
	if want := "ts,ip" + added + "\n" + then + ",10.50.0.1" + held + "\n"; out.String() != want || !errors.Is(err, context.Canceled) || sum.Joined != 1 {
		t.Errorf("%v, %+v\n%s", err, sum, out.String())
	}
}

// broken is a writer whose reader has gone.
type broken struct{ after int }

func (b *broken) Write(p []byte) (int, error) {
	if b.after--; b.after < 0 {
		return 0, syscall.EPIPE
	}
	return len(p), nil
}

func TestJoin_errors(t *testing.T) {
	long := "ts,ip\n" + strings.Repeat(then+",10.50.0.1\n", 300_000)
	if _, err := enrich.Join(t.Context(), strings.NewReader(long), &broken{after: 2}, options("ts", "ip"), nil); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("nobody reads: %v", err)
	}
	var out strings.Builder
	bad := io.MultiReader(strings.NewReader("ts,ip\n"+then+",10.50.0.1\n"), iotest.ErrReader(syscall.EIO))
	sum, err := enrich.Join(t.Context(), bad, &out, options("ts", "ip"), nil)
	if !errors.Is(err, syscall.EIO) || sum.Joined != 1 || !strings.HasSuffix(out.String(), held+"\n") {
		t.Errorf("a disk that fails: %v, %+v", err, sum)
	}
}

func TestOptions_Check(t *testing.T) {
	for _, o := range []enrich.Options{options("ts"), options("", "ip"), options("ts", ""), options("ts", "ip", "ip"), options("ts", "a.b", "a_b")} {
		if o.Check() == nil {
			t.Errorf("%+v is well", o.Addresses)
		}
	}
	if o := options("ts", "ip", "ts"); o.Check() != nil {
		t.Error(o.Check())
	}
}

// Records are found as encoding/csv finds them, where it finds any fault with none.
func TestJoin_asCSV(t *testing.T) {
	cell := rapid.StringOfN(rapid.SampledFrom([]rune("a,\"\n\r;\t é")), 0, 6, -1)
	rapid.Check(t, func(t *rapid.T) {
		var in bytes.Buffer
		w := csv.NewWriter(&in)
		w.UseCRLF = rapid.Bool().Draw(t, "crlf")
		_ = w.Write([]string{"a", "ts", "ip", "b"})
		var cells [][]string
		for range rapid.IntRange(0, 8).Draw(t, "records") {
			row := []string{cell.Draw(t, "a"), then, "10.50.0.1", cell.Draw(t, "b")}
			cells = append(cells, row)
			_ = w.Write(row)
		}
		w.Flush()
		joined, sum := join(t, iotest.HalfReader(bytes.NewReader(in.Bytes())), options("ts", "ip"))
		if sum.Joined != int64(len(cells)) {
			t.Fatalf("%+v of\n%q", sum, in.String())
		}
		rows, err := csv.NewReader(strings.NewReader(joined)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for i, row := range rows[1:] {
			if want, _ := csv.NewReader(strings.NewReader(held[1:])).Read(); !cmp.Equal(row[4:], want) {
				t.Errorf("record %d: %q", i, row)
			}
		}
	})
}

// unjoined takes away what may have been added to each line, and demands that the
// rest is what was read.
func unjoined(t *testing.T, in, out, before string, what ...string) {
	t.Helper()
	ins, outs := strings.Split(in, "\n"), strings.Split(out, "\n")
	if len(ins) != len(outs) {
		t.Fatalf("%d lines became %d: %q became %q", len(ins), len(outs), in, out)
	}
	for i, line := range ins {
		same := outs[i] == line
		for _, w := range what {
			at := len(line)
			if before != "" {
				at = strings.LastIndex(line, before)
			} else if strings.HasSuffix(line, "\r") {
				at--
			}
			same = same || at >= 0 && outs[i] == line[:at]+w+line[at:] || before == "" && outs[i] == line+w
		}
		if !same {
			t.Errorf("line %d: %q became %q", i+1, line, outs[i])
		}
	}
}

// unknown is a history in which nobody held anything.
func unknown() enrich.Options {
	o := options("ts", "ip")
	o.History = replay.NewHistory(projection.NewTimeline(), 0)
	return o
}

func FuzzJoin_csv(f *testing.F) {
	for _, text := range []string{
		then + ",10.50.0.1,x\r\n\n" + after + ",::1,\"a\"\"\nb\"\n", "\"" + then + "\",\"10.50.0.1\",x", `",",",` + "\n\"\"\"", "a,b,\"\r\n\"\r,\n", "\r\r\n",
		then + "\t10.50.0.1\t\"\n#types\t\n#", "\"\n" + then + ",\"10.50.0.1\",\"\n\"",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for header, cells := range map[string][]string{
			"ts,ip,x\n":            {added, nobody},
			"#fields\tts\tip\tx\n": {strings.ReplaceAll(added, ",", "\t"), strings.Repeat("\t-", 8) + "\t0\t-", strings.Repeat("\tstring", 8) + "\tcount\tstring"},
		} {
			in := header + text
			if strings.Contains(text, "#fields") {
				return // the names in it may be other ones
			}
			out, sum := join(t, strings.NewReader(in), unknown())
			unjoined(t, in, out, "", cells...)
			slowly, again := join(t, iotest.OneByteReader(strings.NewReader(in)), unknown())
			if diff := cmp.Diff(sum, again, cmpopts.IgnoreUnexported(enrich.Summary{})); slowly != out || diff != "" {
				t.Errorf("%q became %q, and byte by byte %q\n%s", in, out, slowly, diff)
			}
		}
	})
}

func FuzzJoin_json(f *testing.F) {
	for _, text := range []string{`{"ts":1740798300,"ip":"10.50.0.1"}`, `{"ts":"` + after + `","x":{"ip":1},"ip":"::1"} ` + "\r\n[]\n{}", "\x00{\"\\\""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, in string) {
		o := unknown()
		o.Input = enrich.JSONL
		out, _ := join(t, strings.NewReader(in), o)
		unjoined(t, in, out, "}", `,"ip_holders":[]`)
		outs := strings.Split(out, "\n")
		for i, line := range strings.Split(in, "\n") {
			if json.Valid([]byte(line)) != json.Valid([]byte(outs[i])) {
				t.Errorf("%q became %q", line, outs[i])
			}
		}
	})
}

// Beside this, go run ./bench measures the whole program.
func BenchmarkJoin(b *testing.B) {
	h := history(5000, 20)
	random := rand.New(rand.NewPCG(1, 2))
	for name, line := range map[string]string{
		"csv":  "%s,fw1,eth0,eth1,TCP,%s,%d,%s,443,ACCEPT,SYN,64,0x00,63,52,65535,5840,rule-17 allow web from shop to the payment provider and others,0x000000000000,inside,outside\n",
		"json": `{"timestamp":"%s","flow_id":1234567890,"event_type":"flow","src_ip":"%s","src_port":%d,"dest_ip":"%s","dest_port":443,"proto":"TCP","app_proto":"tls","flow":{"pkts":12,"bytes":3456,"state":"closed"}}` + "\n",
	} {
		b.Run(name, func(b *testing.B) {
			var log bytes.Buffer
			o := options("timestamp", "src_ip")
			o.History = h
			if name == "csv" {
				log.WriteString("timestamp,device,in,out,proto,src_ip,src_port,dest_ip,dest_port,verdict,flags,ttl,tos,id,len,window,mss,rule,mark,from,to\n")
			}
			const lines = 200_000
			for range lines {
				at := replaytest.Night.Add(time.Duration(random.Int64N(int64(5 * time.Hour)))).Truncate(time.Microsecond)
				fmt.Fprintf(&log, line, at.Format("2006-01-02T15:04:05.000000Z"), address(random.IntN(5000)), 1024+random.IntN(60000), "192.0.2.7")
			}
			b.SetBytes(int64(log.Len()))
			for b.Loop() {
				if sum, err := enrich.Join(b.Context(), bytes.NewReader(log.Bytes()), io.Discard, o, nil); err != nil || sum.Lines != lines || sum.Unreadable() > 0 {
					b.Fatal(sum, err)
				}
			}
			b.ReportMetric(float64(lines)*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}
