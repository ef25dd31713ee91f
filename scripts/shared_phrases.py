#!/usr/bin/env python3
"""Finds written examples that share phrases with the questions of a benchmark, so that no benchmark is trained on.

    scripts/shared_phrases.py models/needle-mini/written/*.jsonl --benchmark BFCL_v4_simple_python.json BFCL_v4_parallel.json [--remove]

A phrase is a run of six words. A request is listed if it shares three phrases with one question, or half of its own.
--remove deletes the listed requests from their files. Exits with 1 if there are any and they are not removed.
"""

import argparse
import collections
import json
import pathlib
import re
import sys

LENGTH = 6
MOST = 2


def phrases(text):
    words = re.findall(r"[a-z0-9.]+", text.lower().replace(",", ""))
    return {tuple(words[i : i + LENGTH]) for i in range(len(words) - LENGTH + 1)}


def questions(path):
    """The text of each question of a file of BFCL."""
    for line in path.read_text(encoding="utf-8").splitlines():
        turns = json.loads(line)["question"]
        yield " ".join(message["content"] for turn in turns for message in turn if message["role"] == "user")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=pathlib.Path, nargs="+")
    parser.add_argument("--benchmark", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--remove", action="store_true")
    arguments = parser.parse_args()
    asked = [question for path in arguments.benchmark for question in questions(path)]
    known = collections.defaultdict(set)
    for i, question in enumerate(asked):
        for phrase in phrases(question):
            known[phrase].add(i)
    found = 0
    for path in arguments.files:
        head, *lines = path.read_text(encoding="utf-8").splitlines()
        kept = [head]
        for line in lines:
            own = phrases(json.loads(line)["q"])
            shared = collections.Counter(i for phrase in own for i in known.get(phrase, ()))
            most = max(shared.values(), default=0)
            if most > MOST or most and 2 * most >= len(own):
                found += 1
                print(f"{path.name}: {json.loads(line)['q']}\n    {asked[shared.most_common(1)[0][0]][:160]}")
            else:
                kept.append(line)
        if arguments.remove and len(kept) <= len(lines):
            path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    print(f"{found} requests share phrases with one of {len(asked)} questions")
    sys.exit(1 if found and not arguments.remove else 0)


if __name__ == "__main__":
    main()
