#!/usr/bin/env python3
"""Compares our ids with those of the `sentencepiece` package on every query, tools and answers string of JSONL files.

    pip install sentencepiece
    needle tokenizer export CHECKPOINT --out tokenizer.model      # or a model trained by sentencepiece itself
    scripts/tokenizer_parity.py tokenizer.model data/*.jsonl.gz
"""

import argparse
import gzip
import json
import subprocess
import sys

import sentencepiece


def strings(paths):
    for path in paths:
        opener = gzip.open if path.endswith(".gz") else open
        with opener(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                for key in ("query", "tools", "answers", "text", "query_seed_text", "synthetic_answer"):
                    if key in row:
                        yield row[key] if isinstance(row[key], str) else json.dumps(row[key], ensure_ascii=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", nargs="+")
    parser.add_argument("--needle", default="target/release/needle", help="the needle command")
    args = parser.parse_args()

    reference = sentencepiece.SentencePieceProcessor(model_file=args.model)
    command = [args.needle, "tokenizer", "encode", args.model, "--strings", "--json"]
    count = tokens = different = 0
    batch = []

    def compare():
        nonlocal count, tokens, different
        text = "".join(json.dumps(s) + "\n" for s in batch)
        ours = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout.splitlines()
        assert len(ours) == len(batch), f"{len(ours)} answers to {len(batch)} strings"
        for string, line, expected in zip(batch, ours, reference.encode(batch)):
            ids = json.loads(line)["ids"]
            count += 1
            tokens += len(expected)
            if ids != expected:
                different += 1
                if different <= 10:
                    print(f"different: {string!r}\n  ours         {ids}\n  sentencepiece {expected}")
        batch.clear()

    for string in strings(args.data):
        batch.append(string)
        if len(batch) == 20_000:
            compare()
    compare()
    print(f"{count} strings, {tokens} tokens, {different} strings with different ids")
    sys.exit(1 if different or not count else 0)


if __name__ == "__main__":
    main()
