#!/usr/bin/env python3
"""Loads an exported checkpoint in Hugging Face transformers and compares its logits with ours; needs torch.

    pip install torch transformers sentencepiece safetensors numpy cactus-compute     # for its Needle classes; the sdist's Python files suffice
    scripts/check_transformers.py CHECKPOINT EXAMPLES.jsonl
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from cactus.models.needle import register_with_transformers
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForSeq2SeqLM

LOGITS = 1e-4


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("examples")
    parser.add_argument("--needle", default="target/release/needle", help="the needle command")
    parser.add_argument("--limit", type=int, default=16)
    args = parser.parse_args()
    needle = lambda *command: subprocess.run([args.needle, *command], check=True, stdout=subprocess.DEVNULL)
    work = Path(tempfile.mkdtemp())
    needle("export", args.checkpoint, "--format", "hf", "--dtype", "f32", "--out", str(work / "hf"))
    register_with_transformers()
    model = AutoModelForSeq2SeqLM.from_pretrained(work / "hf", dtype=torch.float32).eval()

    from cactus.models.needle.tokenization_needle import NeedleTokenizer

    tokenizer = NeedleTokenizer(str(work / "hf" / "tokenizer.model"))
    compact = lambda value: json.dumps(json.loads(value) if isinstance(value, str) else value, separators=(",", ":"), ensure_ascii=False)
    worst = 0.0
    for line in open(args.examples, encoding="utf-8").readlines()[: args.limit]:
        row = json.loads(line)
        encode = lambda text: tokenizer.sp_model.encode(text)
        source = np.array([encode(row["query"]) + [5] + encode(compact(row["tools"]))], np.int32)[:, :1024]
        target = np.array([[1, 4] + encode(compact(row["answers"]))], np.int32)
        save_file({"src": source, "tgt": target}, work / "in.safetensors")
        needle("golden", args.checkpoint, "--inputs", str(work / "in.safetensors"), "--out", str(work / "out.safetensors"))
        ours = load_file(work / "out.safetensors")["logits"]
        with torch.no_grad():
            theirs = model(input_ids=torch.tensor(source, dtype=torch.long), decoder_input_ids=torch.tensor(target, dtype=torch.long)).logits
        worst = max(worst, float(np.abs(theirs.numpy() - ours).max()))
    print(f"transformers: logits of {args.limit} examples differ by at most {worst:.1e}")
    sys.exit(worst > LOGITS)


if __name__ == "__main__":
    main()
