// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"time"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// tidy gives disk space back until ctx ends.
//
// Etcd's own compaction frees pages inside the database file for reuse, but
// the file never shrinks by itself. Rewriting it does, and blocks every
// write meanwhile, so it waits for a quiet moment: no revision since the last
// look. It waits no longer once the file is past half its quota, because a
// full one stops writes altogether.
func (s *Server) tidy(ctx context.Context, opts Options) {
	look := time.NewTicker(opts.TidyEvery)
	defer look.Stop()
	var seen int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		revision := s.etcd.Server.KV().Rev()
		quiet := revision == seen
		seen = revision

		size := s.etcd.Server.Backend().Size()
		mostlyFree := size > opts.DefragFloor && s.etcd.Server.Backend().SizeInUse() < size/2
		if mostlyFree && (quiet || size > opts.Quota/2) {
			s.defragment(ctx, size)
		}
		// Looked at every time: the alarm may come after the space was made.
		if roomy := s.etcd.Server.Backend().Size() < opts.Quota/10*9; roomy && len(s.etcd.Server.Alarms()) > 0 {
			if err := s.takeWritesAgain(ctx); err != nil {
				s.log.Warn().Err(err).Msg("could not end the embedded etcd's alarm about missing space, trying again")
			}
		}
	}
}

func (s *Server) defragment(ctx context.Context, before int64) {
	began := time.Now()
	if _, err := s.client.Defragment(ctx, s.Endpoint()); err != nil {
		s.log.Warn().Err(err).Int64("bytes", before).Msg("could not defragment the embedded etcd; trying again later")
		return
	}
	after := s.etcd.Server.Backend().Size()
	s.log.Info().
		Int64("bytes_before", before).
		Int64("bytes_after", after).
		Dur("took", time.Since(began)).
		Msg("defragmented the embedded etcd")
}

// takeWritesAgain ends the alarm etcd raised when the file reached its quota.
// Etcd leaves that to an operator; inside a daemon there is none. If space is
// still short, etcd raises it anew.
func (s *Server) takeWritesAgain(ctx context.Context) error {
	alarms, err := s.client.AlarmList(ctx)
	if err != nil {
		return errors.Wrap(err, "list the alarms")
	}
	for _, alarm := range alarms.Alarms {
		if alarm.Alarm != etcdserverpb.AlarmType_NOSPACE {
			continue
		}
		if _, err := s.client.AlarmDisarm(ctx, (*clientv3.AlarmMember)(alarm)); err != nil {
			return errors.Wrap(err, "end the alarm")
		}
		s.log.Info().Msg("the embedded etcd has space again and takes writes")
	}
	return nil
}
