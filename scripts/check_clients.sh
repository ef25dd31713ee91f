#!/usr/bin/env bash
# Serves a checkpoint and asks it with what people use: OpenAI's client, LangChain, the Python SDK for MCP, and Chromium.
#   scripts/check_clients.sh CHECKPOINT [--needle target/release/needle] [--screenshots DIR]
# Needs Python 3.10 or later with venv, npx, Chromium, and the package indexes of Python and Node.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
checkpoint=${1:?which checkpoint?}
shift
needle=$here/../target/release/needle
screenshots=()
while [ $# -gt 0 ]; do
    case $1 in
        --needle) needle=$2 ;;
        --screenshots) screenshots=(--screenshots "$2") ;;
        *) echo "unknown argument: $1" >&2; exit 2 ;;
    esac
    shift 2
done
environment=${NEEDLE_CHECK_ENV:-$here/../target/check-clients}
if [ ! -x "$environment/bin/python" ]; then
    python3 -m venv "$environment"
fi
"$environment/bin/pip" install --quiet openai langchain langchain-openai mcp mcp-server-time trustme uvicorn playwright
python=$environment/bin/python

scratch=$(mktemp -d)
# The loop of an agent needs a model that answers right, which a checkpoint of a short training may not.
"$needle" playground "base=$checkpoint" "mini=$here/../models/needle-mini" --port 0 --workspace "$scratch/workspace" > "$scratch/log" 2>&1 &
server=$!
trap 'kill $server 2> /dev/null; wait $server; rm -rf "$scratch"' EXIT
for _ in $(seq 300); do
    url=$(grep -oE 'http://127\.0\.0\.1:[0-9]+' "$scratch/log" | head -1) && curl -sf "$url/health" > /dev/null && break
    kill -0 $server 2> /dev/null || { cat "$scratch/log" >&2; exit 1; }
    sleep 0.1
done

echo "== OpenAI's client"
"$python" "$here/check_openai.py" --url "$url/v1"
echo "== LangChain"
"$python" "$here/check_agents.py" --url "$url/v1" --model mini
echo "== MCP"
"$python" "$here/check_mcp.py" --needle "$needle" --checkpoint "$checkpoint"
echo "== the page in Chromium"
head -30 "$here/../configs/examples/smart_home.jsonl" > "$scratch/mine.jsonl"
"$python" "$here/check_playground.py" --url "$url" --data "$scratch/mine.jsonl" "${screenshots[@]}"
