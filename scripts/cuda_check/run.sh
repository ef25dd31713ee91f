#!/usr/bin/env bash
# Compiles every CUDA kernel of training steps with NVIDIA's own compiler (NVRTC) for compute capability 9.0, without a GPU: in f32 and
# bf16, with packed rows and recomputed layers. It does not check what the kernels compute.
#
#   cargo build --release --features cuda && scripts/cuda_check/run.sh [NEEDLE]
#
# Needs a C compiler and Python's package index (NVRTC and the headers are NVIDIA's wheels, 170 MB).
set -euo pipefail
cd "$(dirname "$0")/../.."

needle=$(realpath "${1:-target/release/needle}")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

python3 -m pip download -q --no-deps -d "$place/wheels" nvidia-cuda-nvrtc-cu12==12.8.93 nvidia-cuda-runtime-cu12==12.8.90 nvidia-cuda-cccl-cu12==12.9.27
for wheel in "$place"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$place"; done
# The layout of a CUDA installation.
mkdir -p "$place/cuda"
cp -r "$place/nvidia/cuda_runtime/include" "$place/cuda/"
cp -rn "$place"/nvidia/cuda_cccl/include/* "$place/cuda/include/" 2> /dev/null || true
mkdir "$place/lib"
ln -s "$place"/nvidia/cuda_nvrtc/lib/* "$place/lib/"
ln -s libnvrtc.so.12 "$place/lib/libnvrtc.so"
cc -shared -fPIC -w -o "$place/lib/libcuda.so.1" scripts/cuda_check/stand_in_driver.c
ln -s libcuda.so.1 "$place/lib/libcuda.so"

export LD_LIBRARY_PATH="$place/lib" CUDA_PATH="$place/cuda" HOME="$place"
for settings in "" "--compute-dtype bf16" "--compute-dtype bf16 --activation-checkpointing"; do
    echo "== $settings"
    # shellcheck disable=SC2086
    "$needle" bench train --device cuda --batch 2 --enc 256 --dec 64 --examples-per-row 2 --steps 1 $settings > "$place/out" 2> "$place/err" \
        || { tail -40 "$place/err" >&2; exit 1; }
    tail -1 "$place/err"
    # Nothing was computed, so this is the host's part of a step.
    grep 'whole step' "$place/out"
done
