// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"encoding/binary"

	"github.com/cockroachdb/errors"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// sizeofNexthop is that of the kernel's struct nhmsg.
const sizeofNexthop = 8

// nexthops are the numbers of the nexthop objects over each device, by its
// index. A route may name one in place of a gateway and a device, and is then
// none that can be moved like another: the netlink package shows it as if it
// were, and the kernel knows better.
func (m *Machine) nexthops() (map[int][]uint32, error) {
	var messages [][]byte
	err := undisturbed(func() (err error) {
		req := nl.NewNetlinkRequest(unix.RTM_GETNEXTHOP, unix.NLM_F_DUMP)
		req.AddRawData(make([]byte, sizeofNexthop)) // those of all families
		messages, err = req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEXTHOP)
		return err
	})
	if errors.Is(err, unix.EOPNOTSUPP) { // Linux before 5.3 has none
		return nil, nil
	}
	if err != nil {
		return nil, errors.Wrap(err, "list the machine's nexthop objects")
	}
	objects := map[int][]uint32{}
	for _, message := range messages {
		if len(message) < sizeofNexthop {
			continue
		}
		attributes, err := nl.ParseRouteAttr(message[sizeofNexthop:])
		if err != nil {
			return nil, errors.Wrap(err, "read a nexthop object")
		}
		var id, link uint32
		for _, a := range attributes {
			switch a.Attr.Type {
			case unix.NHA_ID:
				id = binary.NativeEndian.Uint32(a.Value)
			case unix.NHA_OIF:
				link = binary.NativeEndian.Uint32(a.Value)
			}
		}
		if link != 0 { // a group has those of its members
			objects[int(link)] = append(objects[int(link)], id)
		}
	}
	return objects, nil
}
