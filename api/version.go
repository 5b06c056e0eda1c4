// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"runtime"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// Version says which program answers, as the command version does.
type Version struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Events   int    `json:"events_format"`
	Store    int    `json:"store_format"`
}

// VersionOf describes this program; what is not known of it is empty.
func VersionOf(version, commit string) Version {
	const unknown = "unknown"
	return Version{
		Version: cmp.Or(version, unknown), Commit: cmp.Or(commit, unknown), Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, Events: events.Version, Store: etcdlog.Format,
	}
}

func version(q *question) error { return q.one(q.options.Version) }
