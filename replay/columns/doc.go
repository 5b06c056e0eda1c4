// SPDX-License-Identifier: Apache-2.0

// Package columns says which columns the answers have in CSV, and what stands in
// them: the same whether a command answers or the API. What people see instead, in a
// table on a terminal, is up to who prints it.
//
// The names are those of the JSON form, with what is nested there put flat:
// container_name is the name of container. Scripts rest on them: columns may be
// added, behind the others, and none goes or changes what it says. Values are the
// program's form of the JSON ones, with null as nothing at all.
//
// Each function returns a list of its own, which the caller may change.
package columns
