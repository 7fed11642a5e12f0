#!/bin/sh
# Prepares a checkout for contributors.
set -e
cd "$(dirname "$0")/.."
mkdir -p build
git config core.whitespace trailing-space,space-before-tab
uname -sr > build/platform.txt
setsid sh tools/lib/usage.sh > /dev/null 2>&1 &
echo "Checkout is ready."
