#!/usr/bin/env bash
# Kills a training run with SIGKILL at random moments, 30 times by default, resumes it each time, and compares its weights with
# those of an uninterrupted run. After each kill, every checkpoint on disk must be readable.
#
#   cargo build --release && scripts/kill_and_resume.sh [KILLS] [NEEDLE]
set -euo pipefail

kills=${1:-30}
needle=$(realpath "${2:-target/release/needle}")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"

"$needle" data synth --count 2000 --brief --max-tools 2 --max-calls 1 | gzip > data.jsonl.gz
"$needle" data synth --count 20 --brief --max-tools 2 --max-calls 1 --held-out > val.jsonl
cat > recipe.toml <<'TOML'
model = "tiny"
steps = 2000
tokenizer = { vocab_size = 500 }
data = { rows = 2, row_enc_tokens = [128, 256], row_dec_tokens = [64, 128], pack_window = 64, shuffle_buffer_mb = 1 }
eval = { every_steps = 100, max_examples = 8, max_tokens = 16 }
checkpoint = { every_steps = 7, keep_last = 3 }
TOML
run=("$needle" train --config recipe.toml --data data.jsonl.gz --val val.jsonl -q)

echo "uninterrupted run"
SECONDS=0
"${run[@]}" --out whole > /dev/null
whole_seconds=$SECONDS

killed=0
while true; do
    resume=()
    [ -d killed/last ] && resume=(--resume)
    "${run[@]}" --out killed "${resume[@]}" > /dev/null &
    pid=$!
    if [ "$killed" -lt "$kills" ]; then
        # From its first milliseconds on; on average early enough for all kills to fall within the run.
        sleep "$(awk -v seed="$RANDOM" -v most="$whole_seconds" -v n="$kills" 'BEGIN { srand(seed); print 0.05 + rand() * (most / n + 0.2) }')"
        if kill -KILL "$pid" 2> /dev/null; then killed=$((killed + 1)); fi
    fi
    status=0
    wait "$pid" 2> /dev/null || status=$?
    for checkpoint in killed/last killed/best killed/step-*; do
        [ -d "$checkpoint" ] || continue
        "$needle" info "$checkpoint" > /dev/null || { echo "unreadable: $checkpoint"; exit 1; }
    done
    [ "$status" -eq 0 ] && break
    [ "$status" -eq 137 ] || { echo "ended with $status"; exit 1; }
done

steps() { grep -c '"event":"step"' "$1/metrics.jsonl"; }
cmp killed/last/model.safetensors whole/last/model.safetensors
cmp killed/last/trainer/optimizer.safetensors whole/last/trainer/optimizer.safetensors
[ "$(steps killed)" = "$(steps whole)" ] || { echo "$(steps killed) lines instead of $(steps whole)"; exit 1; }
echo "killed $killed times, and the result is bit-identical"
