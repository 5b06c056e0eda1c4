// SPDX-License-Identifier: Apache-2.0

package events

import (
	"encoding/json"

	"github.com/cockroachdb/errors"
)

// Guard values have no version of their own: fields are only ever added, and
// those of a newer writer are kept by an older one that rewrites the value.

// EncodeGuard writes the value of a pool, grant, host or address guard.
func EncodeGuard[T Pool | Grant | HostGuard | Held](v T) ([]byte, error) {
	if held, ok := any(v).(Held); ok {
		out := []byte(`{"allocations":[`)
		for i, a := range held {
			raw, err := marshal(a, a.Extra, "")
			if err != nil {
				return nil, errors.Wrap(err, "encode an address guard")
			}
			if i > 0 {
				out = append(out, ',')
			}
			out = append(out, raw...)
		}
		return append(out, "]}"...), nil
	}
	return marshal(v, extraOf(v), "")
}

// DecodeGuard reads the value of a guard. It returns [ErrMalformed].
func DecodeGuard[T Pool | Grant | HostGuard | Held](data []byte) (T, error) {
	var v T
	if p, ok := any(&v).(*Held); ok {
		if held, ok := readHeld(data); ok {
			*p = held
			return v, nil
		}
	}
	return decodeAnyGuard[T](data)
}

func decodeAnyGuard[T Pool | Grant | HostGuard | Held](data []byte) (T, error) {
	var v T
	var err error
	switch p := any(&v).(type) {
	case *Held:
		var list struct {
			Allocations []json.RawMessage `json:"allocations"`
		}
		if err = json.Unmarshal(data, &list); err != nil {
			break
		}
		*p = make(Held, len(list.Allocations))
		for i, raw := range list.Allocations {
			if err = unmarshal(raw, &(*p)[i]); err == nil {
				err = (*p)[i].check()
			}
			if err != nil {
				break
			}
		}
		if len(*p) == 0 && err == nil {
			err = errors.New("nobody holds it")
		}
	case interface {
		extended
		check() error
	}:
		if err = unmarshal(data, p); err == nil {
			err = p.check()
		}
	}
	if err != nil {
		return v, errors.Mark(errors.Wrapf(err, "decode a %T guard", v), ErrMalformed)
	}
	return v, nil
}

func (p Pool) check() error {
	if !p.Subnet.IsValid() || p.Subnet != p.Subnet.Masked() {
		return errors.Newf("subnet %s is not a network", p.Subnet)
	}
	return p.Layout.check(p.Subnet)
}

func (g Grant) check() error {
	if g.State == "" {
		return errors.New("no state")
	}
	return nil
}

func (a Allocation) check() error {
	if !a.Kind.valid() {
		return errors.New("no kind")
	}
	return need("allocation", a.ID)
}

func (h HostGuard) check() error {
	if h.Machine == "" || h.Incarnation == 0 {
		return errors.New("machine and incarnation are both needed")
	}
	return nil
}
