#!/usr/bin/env bash
# Checks that the engine computes the same bits on x86-64, on Arm (under qemu) and in WebAssembly
# (under node), with every instruction set:
#   scripts/check_engine_portability.sh
# Needs node 20 or later, Debian's qemu-user and gcc-aarch64-linux-gnu (installed if they are
# missing), and the targets aarch64-unknown-linux-gnu and wasm32-wasip1 (added by rustup if they are
# missing).
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-target}"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

dpkg -s qemu-user gcc-aarch64-linux-gnu > /dev/null 2>&1 \
    || { apt-get update -qq && apt-get install -y -qq qemu-user gcc-aarch64-linux-gnu; } > /dev/null
for name in aarch64-unknown-linux-gnu wasm32-wasip1; do
    rustup target list --installed | grep -qx "$name" || rustup target add "$name" 2> /dev/null
done

build() { cargo build --quiet -p engine-scripts --no-default-features --bin portability "$@"; }
echo "== x86-64"
build
"$target/debug/portability" > "$out/native"

echo "== aarch64"
CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc build --target aarch64-unknown-linux-gnu
# `-cpu max` has dot products.
qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu "$target/aarch64-unknown-linux-gnu/debug/portability" > "$out/aarch64" 2> "$out/sets"
cat "$out/sets"
grep -q NeonDot "$out/sets"
diff "$out/native" "$out/aarch64"

echo "== WebAssembly"
RUSTFLAGS="-C target-feature=+simd128" build --target wasm32-wasip1
node --no-warnings scripts/engine/run.mjs "$target/wasm32-wasip1/debug/portability.wasm" > "$out/wasm" 2> "$out/sets"
cat "$out/sets"
grep -q WasmSimd "$out/sets"
diff "$out/native" "$out/wasm"
echo "the results are bit-identical everywhere"
