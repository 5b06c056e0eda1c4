// SPDX-License-Identifier: Apache-2.0

package api

// route is one thing to ask.
type route struct {
	path       string
	parameters []string // those it takes
	required   []string // those of them it cannot do without
	formats    formats
	cost       cost
	answer     func(*question) error
}

const v1 = Prefix + "v1/"

// routes are all there are.
var routes = []route{
	{path: v1 + "pools", parameters: names("format"), formats: lists, cost: asking, answer: pools},
	{path: v1 + "holders", parameters: names("pool", "at", "zone", "format"), required: names("pool"), formats: lists, cost: asking, answer: holders},
	{path: v1 + "who", parameters: names("address", "at", "pool", "zone", "format"), required: names("address"), formats: lists, cost: asking, answer: who},
	{path: v1 + "history", parameters: names("subject", "since", "until", "zone", "format"), required: names("subject"), formats: lists, cost: asking, answer: history},
	{path: v1 + "diff", parameters: names("pool", "from", "to", "zone", "format"), required: names("pool", "from"), formats: lists, cost: asking, answer: diff},
	{path: v1 + "events", parameters: names("pool", "since", "until", "limit", "follow", "zone", "format"), formats: lines, cost: reading, answer: eventsOf},
	{path: v1 + "replay", parameters: names("pool", "at", "zone", "format"), formats: lists, cost: reading, answer: rebuild},
	{path: v1 + "version", answer: version},
	{path: v1 + "openapi.json", answer: describeJSON},
	{path: v1 + "openapi.yaml", answer: describeYAML},
}

// nowhere is every other path.
var nowhere = route{path: "other"}

func names(list ...string) []string { return list }
