#!/usr/bin/env bash
# Builds the Python wheel with maturin, installs it into its own environment, and runs its tests
# with a model:
#   scripts/check_python.sh [MODEL]      # an artifact or a checkpoint with a retrieval head; by default, one with random weights
# NEEDLE_SMALL=1 builds with the profile `small`, and prints the size. Needs Python 3.9 or later
# with venv, and a package index for maturin and pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=dev; folder=debug
if [ -n "${NEEDLE_SMALL:-}" ]; then profile=small; folder=small; fi
target="${CARGO_TARGET_DIR:-target}"
environment=${NEEDLE_PYTHON_ENV:-$PWD/target/check-python}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

[ -x "$environment/bin/python" ] || python3 -m venv "$environment"
"$environment/bin/pip" install --quiet 'maturin>=1.9,<2' pytest
model=${1:-$out/model}
if [ $# = 0 ]; then
    cargo build --quiet -p engine-scripts --profile "$profile"
    "$target/$folder/write_model" "$model"
fi
"$environment/bin/maturin" build --quiet --profile "$profile" --manifest-path needle-py/Cargo.toml --out "$out/wheel" \
    --interpreter "$environment/bin/python"
case "$(ls "$out/wheel")" in *-abi3-*) ;; *) echo "not an abi3 wheel: $(ls "$out/wheel")" >&2; exit 1;; esac
"$environment/bin/pip" install --quiet --force-reinstall --no-deps "$out"/wheel/*.whl
"$environment/bin/python" -m pytest -q needle-py/tests --model "$model" -p no:cacheprovider
[ -z "${NEEDLE_SMALL:-}" ] || stat -c '%n: %s bytes' "$out"/wheel/*.whl
