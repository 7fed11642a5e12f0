//go:build tools

// Package runsc pins the gVisor that `make runsc` builds.
package runsc

import _ "gvisor.dev/gvisor/runsc"
