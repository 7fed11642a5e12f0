//go:build tools

package parts

import _ "gvisor.dev/gvisor/runsc"
