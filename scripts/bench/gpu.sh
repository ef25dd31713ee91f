#!/usr/bin/env bash
# Compares a training step on a GPU with PyTorch's under torch.compile, in one run with the same sizes, weights and batch. Checks that
# their first losses agree, and prints a table.
#
#   cargo build --release --features cuda && scripts/bench/gpu.sh [NEEDLE] [ROWS..]
#
# PYTHON names an interpreter with torch, safetensors and numpy. DEVICE=cpu MODEL=quickstart ENC=64 DEC=32 DTYPE=f32 tests the script
# itself without a GPU.
set -euo pipefail
cd "$(dirname "$0")/../.."

needle=${1:-target/release/needle}
shift || true
[ $# -gt 0 ] || set -- 32 64 128 256
python=${PYTHON:-python3}
device=${DEVICE:-cuda} model=${MODEL:-needle-26m} enc=${ENC:-1024} dec=${DEC:-512} examples=${EXAMPLES:-8} dtype=${DTYPE:-bf16}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

for rows in "$@"; do
    sizes=(--model "$model" --batch "$rows" --enc "$enc" --dec "$dec" --examples-per-row "$examples" --compute-dtype "$dtype")
    "$needle" bench train --device "$device" "${sizes[@]}" --save-weights "$place/w.safetensors" --json > "$place/ours.$rows.json" \
        || echo "needle failed at $rows rows" >&2
    for attention in sdpa flex; do
        # Flex attention is only compiled for GPUs; on a CPU it would materialize all scores.
        [ "$device" = cpu ] && [ "$attention" = flex ] && continue
        compile=(--compile)
        [ "$device" = cpu ] && compile=()
        "$python" scripts/bench/torch_step.py --device "$device" "${sizes[@]}" --weights "$place/w.safetensors" --attention "$attention" \
            "${compile[@]}" > "$place/torch-$attention.$rows.json" 2> "$place/error" \
            || { echo "torch with $attention failed at $rows rows: $(tail -1 "$place/error")" >&2; rm -f "$place/torch-$attention.$rows.json"; }
    done
done

"$python" - "$place" "$dtype" "$@" << 'PY'
import json, pathlib, sys

place, dtype, rows = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
# bf16 has eight bits of precision: two programs that round in different places differ in the third digit of a loss.
tolerance = {"f32": 1e-4, "bf16": 5e-3}[dtype]
print(f"{'rows':>5} {'program':>12} {'tokens/s':>12} {'without optimizer':>18} {'first loss':>11} {'MB':>8}")
apart = False
for row in rows:
    found = {}
    for name in ("ours", "torch-sdpa", "torch-flex"):
        path = place / f"{name}.{row}.json"
        if path.exists() and path.stat().st_size:
            found[name] = json.loads(path.read_text().splitlines()[-1])
    for name, r in found.items():
        mb = r.get("device_mb") or r.get("peak_device_mb") or r.get("peak_rss_mb") or float("nan")
        print(f"{row:>5} {name:>12} {r['tokens_per_second']:>12,.0f} {r['tokens_per_second_without_optimizer']:>18,.0f} {r['first_loss']:>11.5f} {mb:>8,.0f}")
    losses = [r["first_loss"] for r in found.values()]
    if losses and max(losses) - min(losses) > tolerance * max(losses):
        apart = True
        print(f"      first losses differ by more than {tolerance}")
    if "ours" in found and len(found) > 1:
        best = max(r["tokens_per_second"] for name, r in found.items() if name != "ours")
        print(f"      ours / PyTorch: {found['ours']['tokens_per_second'] / best:.2f}")
sys.exit(apart)
PY
