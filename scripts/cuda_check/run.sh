#!/usr/bin/env bash
# Compiles every CUDA kernel of training steps with NVIDIA's own compiler (NVRTC) for compute capability 9.0, without a GPU: in f32 and
# bf16, with packed rows and recomputed layers. Then it counts the launches of a step, and checks that the kernels of the attention use
# tensor cores in bf16 and keep their sums in registers. It does not check what the kernels compute.
#
#   cargo build --release --features cuda && scripts/cuda_check/run.sh [NEEDLE]
#
# Needs a C compiler and Python's package index (NVRTC, ptxas and the headers are NVIDIA's wheels, 130 MB).
set -euo pipefail
cd "$(dirname "$0")/../.."

needle=$(realpath "${1:-target/release/needle}")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

python3 -m pip download -q --no-deps -d "$place/wheels" nvidia-cuda-nvrtc-cu12==12.8.93 nvidia-cuda-runtime-cu12==12.8.90 \
    nvidia-cuda-cccl-cu12==12.9.27 nvidia-cuda-nvcc-cu12==12.8.93
for wheel in "$place"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$place"; done
chmod +x "$place/nvidia/cuda_nvcc/bin/ptxas"
# The layout of a CUDA installation.
mkdir -p "$place/cuda"
cp -r "$place/nvidia/cuda_runtime/include" "$place/cuda/"
cp -rn "$place"/nvidia/cuda_cccl/include/* "$place"/nvidia/cuda_nvcc/include/* "$place/cuda/include/" 2> /dev/null || true
mkdir "$place/lib"
ln -s "$place"/nvidia/cuda_nvrtc/lib/* "$place/lib/"
ln -s libnvrtc.so.12 "$place/lib/libnvrtc.so"
cc -shared -fPIC -w -o "$place/lib/libcuda.so.1" scripts/cuda_check/stand_in_driver.c
ln -s libcuda.so.1 "$place/lib/libcuda.so"

export LD_LIBRARY_PATH="$place/lib" CUDA_PATH="$place/cuda" HOME="$place"
# Runs `needle bench train` for some steps after the two that warm up.
bench() {
    "$needle" bench train --device cuda --batch 2 --enc 256 --dec 64 --examples-per-row 2 --steps "$@" > "$place/out" 2> "$place/err" \
        || { tail -40 "$place/err" >&2; exit 1; }
}
launches() { grep -oE '[0-9]+ launches' "$place/err" | cut -d' ' -f1; }

for kind in f32 bf16 recomputed; do
    case $kind in
        f32) settings=() ;;
        bf16) settings=(--compute-dtype bf16) ;;
        recomputed) settings=(--compute-dtype bf16 --activation-checkpointing) ;;
    esac
    echo "== $kind"
    mkdir "$place/$kind"
    STAND_IN_OUT="$place/$kind" bench 1 "${settings[@]}"
    tail -1 "$place/err"
    # Nothing was computed, so this is the host's part of a step.
    grep 'whole step' "$place/out"
    # All kernels are compiled and tuned now: more steps launch only what belongs to a step.
    bench 1 "${settings[@]}"
    few=$(launches)
    bench 5 "${settings[@]}"
    echo "$((($(launches) - few) / 4)) launches a step"
done

echo "== attention in bf16: products on tensor cores, registers of a thread, bytes spilled"
grep -lE 'entry (forward|queries|keys)_kernel_e_bf16' "$place"/bf16/*.ptx | while read -r ptx; do
    name=$(grep -oEm1 '(forward|queries|keys)_kernel_e_bf16' "$ptx") products=$(grep -c wmma.mma "$ptx")
    "$place/nvidia/cuda_nvcc/bin/ptxas" -v -arch=sm_90a "$ptx" -o "$place/cubin" 2> "$place/err"
    registers=$(grep -oE '[0-9]+ registers' "$place/err") spilled=$(grep -oE '[0-9]+ bytes spill stores' "$place/err" | cut -d' ' -f1)
    echo "$name: $products products, $registers, $spilled bytes spilled"
    # A few bytes outside the loops are no matter; a tile would be 64 bytes or more.
    [ "$products" -gt 0 ] && [ "$spilled" -lt 64 ]
done
