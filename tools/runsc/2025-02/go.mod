module sandtrail/tools/runsc

go 1.23.1

toolchain go1.23.6

require gvisor.dev/gvisor v0.0.0-20250205023644-9414b50a5633
