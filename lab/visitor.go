// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
)

// Visitor is who a lab is made for where there is no test: a [T] that tells a person
// what went wrong. Its Errorf and Logf may be called from any goroutine, the others from
// the visit's own.
type Visitor struct {
	name   string // of the program
	mu     sync.Mutex
	failed bool
	ends   []func()
}

// Visit runs do for a program of that name, and then all cleanups, as a test would. It
// returns the exit status: that of do, or 1 if the visit failed or do never returned.
func Visit(name string, do func(*Visitor) int) int {
	v := &Visitor{name: name}
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

func (v *Visitor) leave() {
	for _, end := range slices.Backward(v.ends) {
		end()
	}
}

// Helper implements [T].
func (v *Visitor) Helper() {}

// Cleanup implements [T].
func (v *Visitor) Cleanup(end func()) { v.ends = append(v.ends, end) }

// Failed implements [T].
func (v *Visitor) Failed() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.failed
}

// Logf implements [T].
func (v *Visitor) Logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, v.name+": "+format+"\n", args...)
}

// Errorf implements [T].
func (v *Visitor) Errorf(format string, args ...any) {
	v.Logf(format, args...)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.failed = true
}

// Fatal implements [T].
func (v *Visitor) Fatal(args ...any) { v.Fatalf("%s", fmt.Sprint(args...)) }

// Fatalf implements [T].
func (v *Visitor) Fatalf(format string, args ...any) {
	v.Errorf(format, args...)
	runtime.Goexit()
}
