#!/usr/bin/env bash
# Tests the GPU kernels and training steps on Vulkan's software driver, without a GPU. Takes some minutes to build, and one and a half to run.
#
#   scripts/check_wgpu.sh
#
# On Debian it installs Mesa's driver (as root) if no Vulkan driver is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! ls /usr/share/vulkan/icd.d/*.json > /dev/null 2>&1; then
    apt-get update -qq
    apt-get install -y -qq mesa-vulkan-drivers > /dev/null
fi
cargo test -p needle-tests --features wgpu --test gpu
