// SPDX-License-Identifier: Apache-2.0

package embedded

// StopEtcd stops the etcd inside s behind its back, as a failure would.
func StopEtcd(s *Server) { s.etcd.Server.HardStop() }
