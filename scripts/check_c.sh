#!/usr/bin/env bash
# Compiles needle-capi/tests/ask.c with the C compiler against the shared and the static library,
# and asks a model with it:
#   scripts/check_c.sh [MODEL]      # an artifact or a checkpoint with a retrieval head; by default, one with random weights
# NEEDLE_SMALL=1 builds with the profile `small`, and prints the sizes.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=(); folder=debug
if [ -n "${NEEDLE_SMALL:-}" ]; then profile=(--profile small); folder=small; fi
target="${CARGO_TARGET_DIR:-target}"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

cargo build --quiet -p needle-capi -p engine-scripts "${profile[@]}"
model=${1:-$out/model}
[ $# -gt 0 ] || "$target/$folder/write_model" "$model"

compile=("${CC:-cc}" -std=c99 -Wall -Wextra -Werror -pedantic -Ineedle-capi/include needle-capi/tests/ask.c)
"${compile[@]}" -o "$out/shared" -L"$target/$folder" -lneedle_capi -lm
"${compile[@]}" -o "$out/static" "$target/$folder/libneedle_capi.a" -lm -lpthread -ldl
LD_LIBRARY_PATH="$target/$folder" "$out/shared" "$model"
"$out/static" "$model"
# The library exports its own functions, those of llguidance's C ABI, and no others.
nm -D --defined-only "$target/$folder/libneedle_capi.so" | awk '{print $3}' | sort > "$out/exported"
grep -o 'needle_[a-z_]*(' needle-capi/include/needle.h | tr -d '(' | sort -u > "$out/declared"
grep -v '^\(needle\|llg\)_' "$out/exported" | grep -v '^_\(init\|fini\)$' && { echo "these symbols are exported, but are not the library's own" >&2; exit 1; }
for name in $(grep '^needle_' "$out/exported"); do
    grep -qx "$name" "$out/declared" || { echo "$name is exported, but not declared" >&2; exit 1; }
done
[ "$folder" = debug ] || echo "libneedle_capi.so: $(stat -c %s "$target/$folder/libneedle_capi.so") bytes"
echo "the C program asked a model through the shared and the static library"
