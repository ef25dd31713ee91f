#!/usr/bin/env bash
# Exports a checkpoint in every format and compares three independent runtimes with our own model on held-out questions:
#   scripts/check_exports.sh CHECKPOINT EXAMPLES.jsonl [more arguments of scripts/check_exports.py]
# Needs Python 3.9 or later with venv, and a package index for needle-rs, onnxruntime, onnx, sentencepiece and safetensors.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
environment=${NEEDLE_CHECK_ENV:-$here/../target/check-exports}
if [ ! -x "$environment/bin/python" ]; then
    python3 -m venv "$environment"
fi
"$environment/bin/pip" install --quiet needle-rs==0.3.1 onnxruntime onnx sentencepiece safetensors numpy
exec "$environment/bin/python" "$here/check_exports.py" "$@"
