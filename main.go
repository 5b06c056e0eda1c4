// SPDX-License-Identifier: Apache-2.0

// Command ipamlog is a Docker IPAM driver whose memory is an event log on etcd,
// and the tool that asks that log who held an address at any moment.
//
// This file is the daemon put together: each long-running part is an actor of
// one oklog/run group, added in the order in which they are to stop.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/mattn/go-isatty"
	"github.com/oklog/run"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/api"
	"github.com/ipamlog/ipamlog/attribution"
	"github.com/ipamlog/ipamlog/cli"
	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/demo"
	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/node"
	"github.com/ipamlog/ipamlog/plugin"
	"github.com/ipamlog/ipamlog/reconcile"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/status"
)

// version is set by the linker; a build without it is named by its module.
var version = ""

const (
	// drainPatience is how long a stopping daemon waits for requests under way.
	drainPatience = 10 * time.Second
	// rememberEvery is how often the daemon notes how far it has seen its store.
	rememberEvery = 5 * time.Second
	// lookPatience is how long Docker's first request waits for a look at the engine.
	lookPatience = 2 * time.Second
	// indexEvery is how often it brings the index of the past up to date.
	indexEvery = time.Minute
	// archiveEvery is how often it looks whether the log has grown old enough to be archived.
	archiveEvery = 10 * time.Minute
	// sizeEvery is how often it looks how full etcd is.
	sizeEvery = 10 * time.Minute
)

func main() { os.Exit(mainStatus()) }

func mainStatus() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := cli.New(build(), serveCommand(), demo.Command())
	return cli.Run(ctx, root, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

func build() cli.Build {
	b := cli.Build{Version: version}
	if info, ok := debug.ReadBuildInfo(); ok {
		if b.Version == "" {
			b.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Commit = s.Value
			}
		}
	}
	return b
}

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "serve",
		Aliases: []string{"server"},
		Short:   "Run the daemon that Docker asks for addresses",
		Long: `Run the daemon: it answers Docker on the plugin socket, and writes every change
to the log. Without --cluster-store it runs etcd inside itself, reachable only
through a unix socket in the data directory.

Exit status: 0 it was stopped; 1 it could not go on, and one sentence says why;
2 wrong usage.`,
		Example: `  ipamlog serve
  ipamlog serve --cluster-store https://10.0.0.1:2379,https://10.0.0.2:2379 --cacert ca.pem`,
		GroupID: cli.GroupDaemon,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := cli.Config(cmd)
			if err != nil {
				return err
			}
			out, log := cmd.OutOrStdout(), os.Stderr
			if cfg.Managed {
				// The engine calls what it reads there an error, and has no person to
				// be told what to type.
				out, log = io.Discard, os.Stdout
			}
			return serve(cmd.Context(), cfg, out, newLogger(cfg.Global, log))
		},
	}
	config.RegisterServe(cmd.Flags(), config.Process())
	return cmd
}

func newLogger(cfg config.Global, w *os.File) zerolog.Logger {
	level := zerolog.InfoLevel
	if cfg.Debug {
		level = zerolog.DebugLevel
	}
	out := render.Log(w)
	if isatty.IsTerminal(w.Fd()) {
		out = zerolog.ConsoleWriter{Out: w, NoColor: cfg.NoColor, TimeFormat: time.TimeOnly}
	}
	return zerolog.New(out).Level(level).With().Timestamp().Logger()
}

// serve runs the daemon until ctx ends or a part of it cannot go on.
func serve(ctx context.Context, cfg config.Config, out io.Writer, log zerolog.Logger) error {
	n, err := node.Start(ctx, cfg, build().Version, log)
	if err != nil {
		return err
	}
	defer n.Close()

	metrics := status.NewMetrics(build().Version, n.Stats, n.Revision)
	metrics.Registry.MustRegister(n.Collectors()...)
	driver := plugin.NewDriver(n.Keeper())
	socket, err := plugin.Listen(cfg.Socket, cfg.SocketGroup)
	if err != nil {
		return err
	}
	n.OnFatal(func(reason string) {
		_ = socket.Close() // Docker waits for a socket that nobody answers
		fmt.Fprintf(os.Stderr, "ipamlog: the embedded etcd cannot go on (%s): mend that and start again, nothing that was answered is lost\n", reason)
	})
	var g run.Group

	// The user's word, and everything follows in the order it was added here.
	{
		ctx, cancel := context.WithCancel(ctx)
		g.Add(func() error {
			<-ctx.Done()
			return nil
		}, func(error) {
			log.Info().Msg("stopping")
			cancel()
		})
	}
	// Docker's socket: it takes no new request, and waits for those under way.
	{
		server := plugin.NewServer(driver, metrics, log)
		g.Add(func() error { return server.Serve(socket) }, func(error) {
			ctx, cancel := context.WithTimeout(context.Background(), drainPatience)
			defer cancel()
			if err := server.Shutdown(ctx); err != nil {
				log.Warn().Err(err).Msg("some requests were cut off")
			}
		})
	}
	// Metrics, health and the API.
	questions := &api.Server{}
	if cfg.Listen != config.Off {
		listener, err := net.Listen("tcp", cfg.Listen)
		if err != nil {
			return errors.CombineErrors(errors.Wrap(err, "listen for metrics and health: choose another --listen, or off"), socket.Close())
		}
		security, err := status.TLS(status.Files{Cert: cfg.ListenCert, Key: cfg.ListenKey, ClientCA: cfg.ListenClientCA}, log)
		if err != nil {
			return errors.CombineErrors(err, errors.CombineErrors(listener.Close(), socket.Close()))
		}
		access, err := access(cfg, listener.Addr(), log)
		if err != nil {
			return errors.CombineErrors(err, errors.CombineErrors(listener.Close(), socket.Close()))
		}
		questions = api.NewServer(api.Options{Access: access, Version: api.VersionOf(build().Version, build().Commit), Observer: metrics, Logger: log})
		server := status.NewServer(status.Handler(metrics, n.Ready, questions), security, log)
		g.Add(func() error { return server.Serve(listener) }, func(error) { server.Close() })
	}
	// The engine: whose the addresses are, and what it and the log disagree on.
	joined := make(chan *actor.Host, 1)
	var looks []<-chan struct{}
	if cfg.Engine != config.Off {
		docker, err := engine.Open(cfg.Engine)
		if err != nil {
			return errors.CombineErrors(err, socket.Close())
		}
		whose := attribution.New(attribution.Options{Engine: docker, Driver: driverName(cfg), Labels: cfg.Labels, Logger: log})
		metrics.Registry.MustRegister(whose.Collectors()...)
		n.Tell(whose)
		looks = append(looks, whose.Looked())
		asking := []func(context.Context, *actor.Host){
			func(ctx context.Context, host *actor.Host) { host.TellEngine(ctx, docker.Version) },
			func(ctx context.Context, host *actor.Host) { whose.Run(ctx, host) },
		}
		if cfg.Managed {
			asking = append(asking, func(ctx context.Context, host *actor.Host) { host.TellSwarm(ctx, docker.Swarm) })
		}
		if mode := reconcile.Mode(cfg.Reconcile); mode != reconcile.Off {
			r := reconcile.New(reconcile.Options{
				Engine: docker, Driver: driverName(cfg), Mode: mode, Every: cfg.ReconcileEvery, Grace: cfg.ReconcileGrace, Logger: log,
			})
			metrics.Registry.MustRegister(r.Collectors()...)
			looks = append(looks, r.Looked())
			if mode == reconcile.Fix {
				n.LookWith(r.Soon)
			}
			asking = append(asking, func(ctx context.Context, host *actor.Host) { r.Run(ctx, host) })
		}
		ctx, cancel := context.WithCancel(context.Background())
		g.Add(func() error {
			select {
			case host := <-joined:
				var running sync.WaitGroup
				for _, ask := range asking {
					running.Go(func() { ask(ctx, host) })
				}
				running.Wait()
			case <-ctx.Done():
			}
			return docker.Close()
		}, func(error) { cancel() })
	}
	// This host on the log: its pools answer what they have accepted.
	{
		ctx, cancel := context.WithCancel(context.Background())
		g.Add(func() error {
			host, err := n.Join(ctx, metrics)
			if err != nil || host == nil {
				return err
			}
			joined <- host
			if !cfg.Managed { // the engine that starts a plugin answers nothing meanwhile
				wait(ctx, lookPatience, looks)
			}
			driver.Attach(host)
			questions.Attach(api.Source{Log: host.Writer().Log(), Past: n.Index()})
			announce(out, cfg, n)
			log.Info().Str("socket", cfg.Socket).Str("host", cfg.Host).Stringer("store", n.Store()).
				Uint64("incarnation", host.Writer().Incarnation()).Msg("serving")
			return host.Run(ctx)
		}, func(error) { cancel() })
	}
	// What is remembered of the store, to know it again.
	{
		ctx, cancel := context.WithCancel(context.Background())
		g.Add(func() error { return n.Remember(ctx, rememberEvery) }, func(error) { cancel() })
	}
	// The index of the past, for the API and for commands.
	{
		ctx, cancel := context.WithCancel(context.Background())
		g.Add(func() error { return n.KeepIndex(ctx, indexEvery) }, func(error) { cancel() })
	}
	// The old part of the log, for the archive.
	{
		ctx, cancel := context.WithCancel(context.Background())
		g.Add(func() error { return n.KeepArchive(ctx, archiveEvery) }, func(error) { cancel() })
	}
	// How full the store is.
	{
		ctx, cancel := context.WithCancel(context.Background())
		g.Add(func() error { return n.WatchSize(ctx, sizeEvery) }, func(error) { cancel() })
	}
	// The embedded etcd, if there is one, outlives all who need it.
	{
		ctx, cancel := context.WithCancel(context.Background())
		g.Add(func() error { return n.RunStore(ctx) }, func(error) { cancel() })
	}
	err = g.Run()
	log.Info().Msg("stopped")
	return err
}

// wait waits until the engine was looked at, before this host allocates anything:
// what is there already is then known to be older. An engine that does not answer is
// itself starting, and waits for us.
func wait(ctx context.Context, patience time.Duration, looks []<-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, looked := range looks {
		select {
		case <-looked:
		case <-ctx.Done():
			return
		}
	}
}

// access finds out who may use the API.
func access(cfg config.Config, at net.Addr, log zerolog.Logger) (api.Access, error) {
	a := api.Access{Local: api.IsLocal(at), Encrypted: cfg.ListenCert != "", Certificates: cfg.ListenClientCA != ""}
	if cfg.ListenTokenFile != "" {
		tokens, err := api.ReadTokens(cfg.ListenTokenFile, log)
		if err != nil {
			return a, err
		}
		a.Tokens = tokens
	}
	if why := a.Closed(); why != "" {
		log.Warn().Msg(why)
	}
	return a, nil
}

// driverName is what the engine calls this daemon. A managed plugin it calls what
// it was installed as, which the plugin is not told.
func driverName(cfg config.Config) attribution.Driver {
	if cfg.Managed {
		return ""
	}
	return attribution.Driver(strings.TrimSuffix(filepath.Base(cfg.Socket), ".sock"))
}

// announce tells a person what to do next.
func announce(out io.Writer, cfg config.Config, n *node.Node) {
	fmt.Fprintf(out, "ipamlog is serving on %s as host %s.\n", cfg.Socket, cfg.Host)
	next := "Next, in another terminal:"
	for _, missing := range n.Missing() {
		fmt.Fprintf(out, "But %s\n", missing)
		next = "Then, in another terminal (and without Docker, see `" + os.Args[0] + " demo`):"
	}
	at := ""
	if defaults := config.Process().Defaults(); len(cfg.ClusterStore) > 0 {
		at = " --cluster-store " + strings.Join(cfg.ClusterStore, ",")
	} else if cfg.DataDir != defaults.DataDir {
		at = " --data-dir " + cfg.DataDir
	}
	fmt.Fprintf(out, `
%[1]s
  docker network create --ipam-driver ipamlog --subnet 10.50.0.0/24 web
  docker run -d --network web --name c1 nginx
  %[2]s holders 10.50.0.0/24%[3]s
  %[2]s who 10.50.0.2%[3]s
  %[2]s tail -f%[3]s

`, next, os.Args[0], at)
}
