// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/cockroachdb/errors"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// An address may have a metric, which the routes that come with it get: of two
// devices in one subnet, packets leave by the one with the lower. The netlink
// package does not know of it, so what has to do with it is asked of the kernel
// here.

// addAddress adds an address. A metric of 0 is the kernel's own choice.
func (m *Machine) addAddress(link string, a netlink.Addr, metric uint32) error {
	return m.onLink(link, "add "+prefixOf(a).String()+" to "+link, unix.EEXIST, func(l netlink.Link) error {
		_, err := newAddress(l.Attrs().Index, a, metric).Execute(unix.NETLINK_ROUTE, 0)
		return err
	})
}

func newAddress(link int, a netlink.Addr, metric uint32) *nl.NetlinkRequest {
	var (
		req    = nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
		family = nl.GetIPFamily(a.IP)
		msg    = nl.NewIfAddrmsg(family)
		local  = a.IP.To16()
		peer   = a.IPNet
	)
	if a.Peer != nil {
		peer = a.Peer
	}
	remote, length := peer.IP.To16(), prefixOf(netlink.Addr{IPNet: peer}).Bits()
	if family == netlink.FAMILY_V4 {
		local, remote = local.To4(), remote.To4()
	}
	msg.Index, msg.Scope, msg.Prefixlen, msg.Flags = uint32(link), uint8(a.Scope), uint8(length), uint8(a.Flags)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, local))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, remote))
	if a.Flags > 0xff { // else the message itself has them all
		req.AddData(nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(uint32(a.Flags))))
	}
	if a.Broadcast != nil && !a.Broadcast.Equal(net.IPv4zero) {
		req.AddData(nl.NewRtAttr(unix.IFA_BROADCAST, a.Broadcast.To4()))
	}
	if a.Label != "" {
		req.AddData(nl.NewRtAttr(unix.IFA_LABEL, nl.ZeroTerminated(a.Label)))
	}
	if a.ValidLft > 0 || a.PreferedLft > 0 {
		life := nl.IfaCacheInfo{IfaCacheinfo: unix.IfaCacheinfo{Valid: uint32(a.ValidLft), Prefered: uint32(a.PreferedLft)}} //nolint:misspell // the kernel's own spelling
		req.AddData(nl.NewRtAttr(unix.IFA_CACHEINFO, life.Serialize()))
	}
	if metric != 0 {
		req.AddData(nl.NewRtAttr(unix.IFA_RT_PRIORITY, nl.Uint32Attr(metric)))
	}
	return req
}

func (m *Machine) removeAddress(link string, a netlink.Addr) error {
	return m.onLink(link, "remove "+prefixOf(a).String()+" from "+link, unix.EADDRNOTAVAIL, func(l netlink.Link) error { return m.handle.AddrDel(l, &a) })
}

// metrics are those of the addresses that have one, by the device's index.
func (m *Machine) metrics() (map[int]map[netip.Addr]uint32, error) {
	var messages [][]byte
	err := undisturbed(func() (err error) {
		req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
		req.AddData(nl.NewIfAddrmsg(netlink.FAMILY_ALL))
		messages, err = req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
		return err
	})
	if err != nil {
		return nil, errors.Wrap(err, "list the metrics of the machine's addresses")
	}
	all := map[int]map[netip.Addr]uint32{}
	for _, message := range messages {
		msg := nl.DeserializeIfAddrmsg(message)
		attributes, err := nl.ParseRouteAttr(message[msg.Len():])
		if err != nil {
			return nil, errors.Wrap(err, "read the metric of an address")
		}
		var (
			address, local net.IP
			metric         uint32
		)
		for _, a := range attributes {
			switch a.Attr.Type {
			case unix.IFA_ADDRESS:
				address = a.Value
			case unix.IFA_LOCAL: // IPv6 has it for addresses with a peer alone
				local = a.Value
			case unix.IFA_RT_PRIORITY:
				metric = binary.NativeEndian.Uint32(a.Value)
			}
		}
		if metric == 0 {
			continue
		}
		if local == nil {
			local = address
		}
		index := int(msg.Index)
		if all[index] == nil {
			all[index] = map[netip.Addr]uint32{}
		}
		all[index][addrOf(local)] = metric
	}
	return all, nil
}
