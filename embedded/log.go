// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/rs/zerolog"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapTo is the logger etcd is given, for as long as running lasts: what is heard
// while the server closes are only the symptoms of closing.
//
// What etcd holds for fatal ends the process, as it must once etcd serves:
// after a failed fsync nothing in its memory can be trusted. Before it has
// started, fatal is a panic instead, so that Start can return an error.
func zapTo(running context.Context, opts Options, started *atomic.Bool) *zap.Logger {
	log := opts.Log
	core := zerologCore{running: running, log: log.With().Str("component", "etcd").Logger()}
	return zap.New(core,
		zap.ErrorOutput(zapcore.AddSync(io.Discard)),
		zap.WithPanicHook(panicWithReason{}),
		zap.WithFatalHook(exitOnceStarted{started, opts.LastWords}))
}

// reasonOf is what an entry says, with the error it carries.
func reasonOf(entry *zapcore.CheckedEntry, fields []zapcore.Field) string {
	if cause, ok := asMap(fields)["error"]; ok {
		return fmt.Sprintf("%s: %v", entry.Message, cause)
	}
	return entry.Message
}

type panicWithReason struct{}

func (panicWithReason) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	panic(reasonOf(entry, fields))
}

type exitOnceStarted struct {
	started   *atomic.Bool
	lastWords func(reason string)
}

func (x exitOnceStarted) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	reason := reasonOf(entry, fields)
	if !x.started.Load() {
		panic(reason)
	}
	if x.lastWords != nil {
		x.lastWords(reason)
	}
	zapcore.WriteThenFatal.OnWrite(entry, fields)
}

// meant are warnings about what is so on purpose here, or mends itself.
var meant = map[string]bool{
	"Running http and grpc server on single port. This is not recommended for production.": true,
	// Nobody logs in: the mode of the socket decides who may.
	"simple token is not cryptographically signed": true,
	// In its first start etcd may look for what it has yet to write, and
	// looks again five seconds later.
	"Failed to detect schema version":  true,
	"failed to update storage version": true,
}

// hasty is the end of a warning of a member that wants to be elected before it has
// gone through what it wrote before; a moment later it has.
const hasty = "since there are still pending configuration changes to apply"

func isMeant(message string) bool { return meant[message] || strings.HasSuffix(message, hasty) }

// A zerologCore writes zap entries from warn upward to a zerolog logger, and
// at debug those that nobody need act upon.
type zerologCore struct {
	running context.Context // the life of the server, not of a call
	log     zerolog.Logger
}

func (c zerologCore) Enabled(level zapcore.Level) bool { return level >= zapcore.WarnLevel }

func (c zerologCore) With(fields []zapcore.Field) zapcore.Core {
	c.log = c.log.With().Fields(asMap(fields)).Logger()
	return c
}

func (c zerologCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(entry.Level) {
		return checked
	}
	return checked.AddCore(entry, c)
}

func (c zerologCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	level := levelOf(entry.Level)
	if level <= zerolog.ErrorLevel && (isMeant(entry.Message) || c.running.Err() != nil) {
		level = zerolog.DebugLevel
	}
	c.log.WithLevel(level).Fields(asMap(fields)).Msg(entry.Message)
	return nil
}

func (c zerologCore) Sync() error { return nil }

func asMap(fields []zapcore.Field) map[string]any {
	into := zapcore.NewMapObjectEncoder()
	for _, field := range fields {
		field.AddTo(into)
	}
	return into.Fields
}

// levelOf never gives a level at which zerolog itself would end the process.
func levelOf(level zapcore.Level) zerolog.Level {
	switch {
	case level >= zapcore.FatalLevel:
		return zerolog.FatalLevel
	case level >= zapcore.DPanicLevel:
		return zerolog.PanicLevel
	case level == zapcore.ErrorLevel:
		return zerolog.ErrorLevel
	default:
		return zerolog.WarnLevel
	}
}
