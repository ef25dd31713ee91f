#!/usr/bin/env python3
"""Turns files of written examples into training rows.

    scripts/written_examples.py FILE.jsonl.. [--held-out | --unseen] [--sample N] > rows.jsonl

A file is one domain. Its first line has the tools, `{"domain": .., "tools": [..]}`, and each other line a query and its calls,
`{"q": .., "a": [..]}`. A row offers all tools of the domain; training draws fewer of them, other names and distractors
(`[data]` of the recipe). A twelfth of the domains, by the hash of their names, is held out; --held-out writes only those.
The domains that unseen.txt beside a file names are a test; --unseen writes only those.
--sample writes N rows, drawn at random and the same in each run.
"""

import argparse
import hashlib
import json
import pathlib
import random
import sys


def is_held_out(domain):
    return hashlib.sha256(domain.encode()).digest()[0] % 12 == 0


def part(path):
    """Which part a file belongs to: a domain of the test is never trained on, nor looked at."""
    unseen = path.parent / "unseen.txt"
    if unseen.exists() and path.stem in unseen.read_text(encoding="utf-8").split():
        return "unseen"
    return "held out" if is_held_out(path.stem) else "training"


def rows(path):
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    tools = lines[0]["tools"]
    return [{"query": line["q"], "tools": tools, "answers": line["a"]} for line in lines[1:]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=pathlib.Path, nargs="+")
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--held-out", dest="part", action="store_const", const="held out", default="training")
    parts.add_argument("--unseen", dest="part", action="store_const", const="unseen", default="training")
    parser.add_argument("--sample", type=int)
    options = parser.parse_args()
    paths = sorted(options.files, key=lambda path: path.stem)
    chosen = [row for path in paths if part(path) == options.part for row in rows(path)]
    if options.sample is not None:
        chosen = random.Random(0).sample(chosen, min(options.sample, len(chosen)))
    for row in chosen:
        sys.stdout.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
