// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/errors"
)

// Extra holds the fields of a JSON object that this version does not know. They
// are shown with the others and written back where a value is written again.
// Nil nearly always.
type Extra map[string]json.RawMessage

func (x *Extra) extra() *Extra { return x }

func (x Extra) kept() Extra { return x }

type extended interface{ extra() *Extra }

// extraOf returns the extra fields of a struct that embeds Extra.
func extraOf(v any) Extra {
	if x, ok := v.(interface{ kept() Extra }); ok {
		return x.kept()
	}
	return nil
}

// unmarshal reads an object into v, a pointer to a struct that embeds Extra, and
// keeps what the struct has no field for.
func unmarshal(data []byte, v extended) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := decodeOne(dec, v); err == nil {
		return nil
	}
	// The strict try may have filled some fields; the tolerant one starts from
	// nothing.
	reflect.ValueOf(v).Elem().SetZero()
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &all); err != nil {
		return errors.Wrap(err, "read a JSON object")
	}
	if err := json.Unmarshal(data, v); err != nil {
		return errors.Wrap(err, "read a JSON object")
	}
	known := fieldsOf(reflect.TypeOf(v).Elem())
	for name := range all {
		if slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, name) }) {
			delete(all, name)
		}
	}
	if len(all) > 0 {
		*v.extra() = all
	}
	return nil
}

func decodeOne(dec *json.Decoder, v any) error {
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

// marshal writes v with its extra fields behind its own, sorted. lead, if any,
// is a first field already in JSON: `"type":"pool.created"`.
func marshal(v any, x Extra, lead string) ([]byte, error) {
	own, err := json.Marshal(v)
	if err != nil {
		return nil, errors.Wrap(err, "write a JSON object")
	}
	size := len(own) + len(lead) + 1
	for name, raw := range x {
		size += len(name) + len(raw) + 8
	}
	out := append(make([]byte, 0, size), '{')
	field := func(name, value []byte) {
		if len(out) > 1 && len(name)+len(value) > 0 {
			out = append(out, ',')
		}
		out = append(append(out, name...), value...)
	}
	field(nil, []byte(lead))
	field(nil, own[1:len(own)-1])
	for _, name := range sortedKeys(x) {
		key, err := json.Marshal(name)
		if err != nil {
			return nil, errors.Wrapf(err, "write the field %q", name)
		}
		field(append(key, ':'), x[name])
	}
	return append(out, '}'), nil
}

func sortedKeys(x Extra) []string {
	names := make([]string, 0, len(x))
	for name := range x {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

var fieldCache sync.Map // reflect.Type -> []string

// fieldsOf lists the JSON names of a struct's fields.
func fieldsOf(t reflect.Type) []string {
	if cached, ok := fieldCache.Load(t); ok {
		return cached.([]string)
	}
	var names []string
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if field.Anonymous && name == "" {
			names = append(names, fieldsOf(field.Type)...)
		}
		if name != "" && name != "-" {
			names = append(names, name)
		}
	}
	fieldCache.Store(t, names)
	return names
}
