// SPDX-License-Identifier: Apache-2.0

package node

// LookWith sets who has this host's engine compared with the log: soon asks for that, and
// does not wait. What the log may lack is kept back until then, also over restarts. It
// must be called before Join, if at all.
func (n *Node) LookWith(soon func()) { n.look = soon }

// keepUnlooked writes down what has to be looked at still.
func (n *Node) keepUnlooked() {
	if m := n.joined.Load(); m != nil {
		n.note(m)
	}
}
