// SPDX-License-Identifier: Apache-2.0

package node

// Unlooked says whether the store may lack what this host's engine uses, because it was
// restored from a backup or adopted, and the two were not compared yet. What it calls
// free may be in use until then.
func (n *Node) Unlooked() bool {
	m := n.joined.Load()
	if m == nil || !m.unlooked {
		return false
	}
	looked := n.looked.Load()
	if looked == nil {
		return true
	}
	select {
	case <-*looked:
		return false
	default:
		return true
	}
}

// LookedBy sets what is closed once they were compared. It is remembered over restarts
// whether they were.
func (n *Node) LookedBy(looked <-chan struct{}) { n.looked.Store(&looked) }
