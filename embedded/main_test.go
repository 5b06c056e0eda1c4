// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain is also where the processes begin that tests start and kill: they
// are this very binary, told by the environment to be a daemon.
func TestMain(m *testing.M) {
	if dir := os.Getenv(daemonDir); dir != "" {
		daemon(dir)
		return
	}
	goleak.VerifyTestMain(m)
}
