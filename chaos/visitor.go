// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
)

// visitor is who the lab is made for where there is no test: a [lab.T] that
// tells a person what went wrong.
type visitor struct {
	mu     sync.Mutex
	failed bool
	ends   []func()
}

// visit runs do, and then all cleanups, as a test would. It returns the exit
// status: that of do, or 1 if the visit failed or do never returned.
func visit(do func(*visitor) int) int {
	v := &visitor{}
	status := 1
	over := make(chan struct{})
	go func() { // which Fatal can end
		defer close(over)
		defer v.leave()
		status = do(v)
	}()
	<-over
	if v.Failed() && status == 0 {
		status = 1
	}
	return status
}

func (v *visitor) leave() {
	for _, end := range slices.Backward(v.ends) {
		end()
	}
}

func (v *visitor) Helper() {}

func (v *visitor) Cleanup(end func()) { v.ends = append(v.ends, end) }

func (v *visitor) Failed() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.failed
}

func (v *visitor) Logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "chaos: "+format+"\n", args...)
}

func (v *visitor) Errorf(format string, args ...any) {
	v.Logf(format, args...)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.failed = true
}

func (v *visitor) Fatal(args ...any) { v.Fatalf("%s", fmt.Sprint(args...)) }

func (v *visitor) Fatalf(format string, args ...any) {
	v.Errorf(format, args...)
	runtime.Goexit()
}
