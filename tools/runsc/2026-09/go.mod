module sandtrail/tools/runsc

go 1.26.3

toolchain go1.26.6

require gvisor.dev/gvisor v0.0.0-20260905035102-160fafc42237
