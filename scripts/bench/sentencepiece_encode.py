#!/usr/bin/env python3
"""Compares needle, from JSONL to packed batches, with the `sentencepiece` package, which only encodes the same text.

    pip install sentencepiece
    needle tokenizer export CHECKPOINT --out tokenizer.model
    scripts/bench/sentencepiece_encode.py tokenizer.model train.jsonl

Both run on one core, in turn, three times; the best time of each counts. Needle reads, parses, validates, shuffles tools,
encodes (tools once more for retrieval), packs and builds batches; sentencepiece gets its strings from memory.
"""

import argparse
import gzip
import json
import subprocess
import time

import sentencepiece


def strings(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            for key in ("query", "tools", "answers", "text", "query_seed_text", "synthetic_answer"):
                if key in row:
                    value = row[key]
                    yield value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--needle", default="target/release/needle", help="the needle command")
    parser.add_argument("--set", action="append", default=[], help="passed on to `needle bench data`")
    args = parser.parse_args()

    texts = list(strings(args.data))
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    model = sentencepiece.SentencePieceProcessor(model_file=args.model)
    theirs = ours = 0.0
    for _ in range(3):
        begin = time.perf_counter()
        tokens = sum(len(model.encode(text)) for text in texts)
        theirs = max(theirs, tokens / (time.perf_counter() - begin))
        command = [args.needle, "bench", "data", args.data, "--tokenizer", args.model, "--seconds", "1000", "--json"]
        for setting in args.set:
            command += ["--set", setting]
        bench = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        whole = [stage for stage in bench["stages"] if stage["name"] == "files to batches" and stage["threads"] == 1]
        ours = max(ours, whole[0]["tokens_per_second"])
    print(f"{megabytes:.0f} MB of text, {tokens} tokens")
    print(f"sentencepiece {sentencepiece.__version__}, encoding alone   {theirs:12.0f} tokens/s on one core")
    print(f"needle, files to batches              {ours:12.0f} tokens/s on one core, {ours / theirs:.1f}x")


if __name__ == "__main__":
    main()
