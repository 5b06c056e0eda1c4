// SPDX-License-Identifier: Apache-2.0

package render

import (
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
)

// Format is the form in which a list is printed.
type Format string

const (
	// FormatTable is for people: borderless columns, one record a line.
	FormatTable Format = "table"
	// FormatJSON is one indented array.
	FormatJSON Format = "json"
	// FormatJSONL is one JSON object a line.
	FormatJSONL Format = "jsonl"
	// FormatCSV is comma separated values (RFC 4180) below a header line.
	FormatCSV Format = "csv"
	// FormatECS is one JSON object a line in the words of the Elastic Common
	// Schema. Only events have it: who prints them makes the objects.
	FormatECS Format = "ecs"
)

// Formats returns the names of the formats that every list has, the default one
// first.
func Formats() []string {
	return []string{string(FormatTable), string(FormatJSON), string(FormatJSONL), string(FormatCSV)}
}

// ParseFormat returns the format of that name. Its error lists the names
// there are, and reads on after the name of an option.
func ParseFormat(name string) (Format, error) {
	if !slices.Contains(Formats(), name) && name != string(FormatECS) {
		return "", errors.Newf("%q is not a format, choose one of %s", name, strings.Join(Formats(), ", "))
	}
	return Format(name), nil
}
