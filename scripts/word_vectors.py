#!/usr/bin/env python3
"""Writes the word vectors that initialize the base model's embedding, in GloVe's text format.

    pip download --no-deps --only-binary :all: wordllama==0.4.0.post1
    pip install numpy safetensors tokenizers
    scripts/word_vectors.py wordllama-*.whl tokenizer.json > vectors.txt
    needle train --word-vectors vectors.txt --tokenizer tokenizer.json ..

The package holds WordLlama's vectors (D. Lee Miller, 2024; MIT): the token embeddings of large language models, trained
on so that the mean of a text's tokens ranks texts by meaning, and that the first numbers of a vector suffice. A line is
written for each word and fragment of a word among the tokenizer's pieces: the sum of the vectors of its tokens, less the
mean of all lines.
"""

import argparse
import json
import pathlib
import sys
import zipfile

import numpy as np
import safetensors.numpy
import tokenizers

TOKENIZER = "wordllama/tokenizers/l2_supercat_tokenizer_config.json"
VECTORS = "wordllama/weights/l2_supercat_256.safetensors"


def words_of(path):
    """The pieces of a tokenizer.json that consist of two or more letters, in lower case."""
    vocabulary = json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]
    pieces = (piece.lstrip("▁").lower() for piece in vocabulary)
    return sorted({piece for piece in pieces if len(piece) >= 2 and piece.isalpha()})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=pathlib.Path, help="the wheel")
    parser.add_argument("tokenizer", type=pathlib.Path, help="the model's tokenizer.json")
    parser.add_argument("--width", type=int, default=128, help="how many numbers a vector has; less than d_model")
    options = parser.parse_args()
    with zipfile.ZipFile(options.package) as package:
        tokenizer = tokenizers.Tokenizer.from_str(package.read(TOKENIZER).decode("utf-8"))
        (table,) = safetensors.numpy.load(package.read(VECTORS)).values()
    table = table.astype(np.float64)
    words = words_of(options.tokenizer)
    tokens = tokenizer.encode_batch(words, add_special_tokens=False)
    vectors = np.array([table[encoding.ids, : options.width].sum(axis=0) for encoding in tokens])
    for word, vector in zip(words, vectors - vectors.mean(axis=0)):
        sys.stdout.write(f"{word} {' '.join(f'{x:.4f}' for x in vector)}\n")


if __name__ == "__main__":
    main()
