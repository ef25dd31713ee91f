#!/usr/bin/env bash
# Builds the WebAssembly module and asks a model with it: under node, and on the page in headless
# Chromium if it is installed. Its unconstrained answers must be those of the native engine.
#   scripts/check_wasm.sh [MODEL]      # an artifact; by default, one with random weights
# Needs node 18 or later and the target wasm32-unknown-unknown (added by rustup if it is missing).
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-target}"
largest=1500000
out=$(mktemp -d)
trap 'rm -rf "$out"; [ -z "${server:-}" ] || kill "$server"' EXIT

rustup target list --installed | grep -qx wasm32-unknown-unknown || rustup target add wasm32-unknown-unknown 2> /dev/null
RUSTFLAGS="-C target-feature=+simd128" cargo build --quiet --profile small --target wasm32-unknown-unknown -p needle-wasm
wasm="$target/wasm32-unknown-unknown/small/needle_wasm.wasm"
size=$(stat -c %s "$wasm")
echo "needle_wasm.wasm: $size bytes, $(gzip -9c "$wasm" | wc -c) with gzip"
[ "$size" -le "$largest" ] || { echo "more than $largest bytes" >&2; exit 1; }

cargo build --quiet -p engine-scripts
model=${1:-$out/model}
[ $# -gt 0 ] || "$target/debug/write_model" "$model" > /dev/null
query="set a timer for ten minutes"
tools='[{"name":"setTimer","description":"Start a timer","parameters":{"minutes":{"type":"integer","required":true}}}]'
"$target/debug/ask" "$model" "$query" "$tools" --free 24 > "$out/native"
node needle-wasm/tests/node.mjs "$wasm" "$model" "$query" "$tools" 24 > "$out/wasm"
diff "$out/native" "$out/wasm"
echo "under node: the native engine's answer"

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -z "$browser" ]; then
    echo "in a browser: skipped, because Chromium is not installed"
    exit 0
fi
mkdir "$out/site"
cp "$wasm" needle-wasm/www/* "$model"/{needle.safetensors,vocab.txt} "$out/site/"
python3 -u -m http.server --bind 127.0.0.1 --directory "$out/site" 0 > "$out/log" 2>&1 &
server=$!
for _ in $(seq 100); do
    port=$(sed -n 's/.*port \([0-9]*\).*/\1/p' "$out/log")
    [ -n "$port" ] && break
    sleep 0.1
done
# Chromium's virtual clock runs ahead while a page waits, sometimes too far: try again then.
for _ in 1 2 3 4 5; do
    "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$out/profile" --virtual-time-budget=100000 \
        --dump-dom "http://127.0.0.1:$port/index.html?ask" > "$out/dom" 2> "$out/browser"
    grep -q '[0-9] ms</pre>' "$out/dom" && break
done
sed -n '/<pre id="answer"/,/<\/pre>/p' "$out/dom"
grep -q '[0-9] ms</pre>' "$out/dom" || { cat "$out/dom" "$out/log" >&2; exit 1; }
echo "in the browser: the page answers"
