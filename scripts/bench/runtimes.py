#!/usr/bin/env python3
"""Size, load time and speed of one model in three runtimes at INT4, on the same prompts, in one run:

    scripts/bench/runtimes.py CHECKPOINT EXAMPLES.jsonl [--limit 20]      # in the environment of scripts/check_exports.sh

Prefill is reading the prompt and writing one token; decode is every token after it. Ours is
`needle bench decode`, in a process of its own for each number of threads (RAYON_NUM_THREADS). needle-rs has no call that stops after
one token: its first token is timed as it is streamed, tokenizing included, and a decode step is the mean of the others.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))


def measure(runtime, directory, questions):
    """In a process of its own: seconds to load, then (prompt tokens, answer tokens, seconds) of each question."""
    import sentencepiece as spm

    start = time.perf_counter()
    if runtime == "needle-rs":
        from needle_rs import NeedleEngine

        engine = NeedleEngine.load(f"{directory}/needle-rs/needle.safetensors", f"{directory}/needle-rs/vocab.txt")
    else:
        from onnx_generate import Needle

        model = Needle(f"{directory}/onnx", threads=int(os.environ["RAYON_NUM_THREADS"]))
    load = time.perf_counter() - start
    tokenizer = spm.SentencePieceProcessor(model_file=f"{directory}/onnx/tokenizer.model")
    rows = []
    for repeat in range(2):
        for question in questions:
            tools = json.dumps(question["tools"], separators=(",", ":"), ensure_ascii=False)
            prompt = tokenizer.encode(question["query"]) + [5] + tokenizer.encode(tools)
            start = time.perf_counter()
            if runtime == "needle-rs":
                ids = []
                engine.run_stream(question["query"], json.dumps(question["tools"], ensure_ascii=False), lambda t, _: ids.append((t, time.perf_counter())))
                first = ids[0][1] - start if ids else time.perf_counter() - start
                rest, n = (ids[-1][1] - ids[0][1], len(ids) - 1) if ids else (0.0, 0)
            else:
                model.generate(prompt, 1)
                first = time.perf_counter() - start
                start = time.perf_counter()
                answer, steps = model.generate(prompt, 32)
                rest, n = time.perf_counter() - start - first, len(steps) - 1
            # The first round warms up.
            if repeat:
                rows.append((len(prompt), first, n, rest))
    prompt, first, n, rest = map(sum, zip(*rows))
    print(json.dumps({"load_s": load, "prefill": prompt / first, "decode": n / max(rest, 1e-9)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("examples")
    parser.add_argument("--needle", default="target/release/needle")
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    rows = [json.loads(line) for line in open(args.examples, encoding="utf-8")][: args.limit]
    for row in rows:
        row["tools"] = json.loads(row["tools"]) if isinstance(row["tools"], str) else row["tools"]
    if args.measure:
        return measure(*args.measure, rows)

    work = tempfile.mkdtemp()
    for format in ("needle-rs", "onnx"):
        subprocess.run([args.needle, "export", args.checkpoint, "--format", format, "--out", f"{work}/{format}", "--no-verify"], check=True, stdout=subprocess.DEVNULL)
    size = lambda *names: sum(os.path.getsize(f"{work}/{name}") for name in names) / 1e6
    sizes = {
        "needle": os.path.getsize(f"{args.checkpoint}/model.safetensors") / 1e6,
        "needle-rs": size("needle-rs/needle.safetensors", "needle-rs/vocab.txt"),
        "onnxruntime": size(*(f"onnx/{name}" for name in ("encoder.onnx", "decoder.onnx", "retrieval.onnx", "weights.bin", "tokenizer.model"))),
    }
    print("| runtime | MB | threads | load s | prefill tokens/s | decode tokens/s |\n| --- | --- | --- | --- | --- | --- |")
    for threads in (1, 2):
        environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
        for runtime in sizes:
            if runtime == "needle":
                start = time.perf_counter()
                subprocess.run([args.needle, "run", args.checkpoint, "--query", "x", "--tools", '[{"name":"x"}]', "-q"], env=environment, stdout=subprocess.DEVNULL, check=True)
                load = time.perf_counter() - start
                out = subprocess.run([args.needle, "bench", "decode", args.checkpoint, args.examples, "--limit", str(args.limit), "--json"], env=environment, stdout=subprocess.PIPE, check=True)
                means = json.loads(out.stdout)
                result = {"load_s": load, "prefill": means["prefill_tokens_per_second"], "decode": 1e3 / means["decode_ms_per_token"]}
            else:
                command = [sys.executable, __file__, args.checkpoint, args.examples, "--limit", str(args.limit), "--measure", runtime, work]
                result = json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1])
            print(f"| {runtime} | {sizes[runtime]:.1f} | {threads} | {result['load_s']:.2f} | {result['prefill']:.0f} | {result['decode']:.0f} |", flush=True)


assert np
if __name__ == "__main__":
    main()
