#!/usr/bin/env bash
# The kernels for GPUs, and training steps, on Vulkan's software driver: no GPU needed. Some minutes to build, one and a half to run.
#
#   scripts/check_wgpu.sh
#
# On Debian it installs Mesa's driver if it is missing (as root); with a GPU and its own Vulkan driver, nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! ls /usr/share/vulkan/icd.d/*.json > /dev/null 2>&1; then
    apt-get update -qq
    apt-get install -y -qq mesa-vulkan-drivers > /dev/null
fi
cargo test -p needle-tests --features wgpu --test gpu
