#!/usr/bin/env python3
"""Keeps the first numbers of each word vector of a checkpoint, which makes it smaller.

    pip install numpy safetensors
    scripts/shorten_word_vectors.py runs/base_3/last --width 88

WordLlama's vectors are trained so that their first numbers suffice. The order of tools changes a little.
"""

import argparse
import pathlib

import numpy as np
import safetensors.numpy

CODES, SCALES = "word_vectors.codes", "word_vectors.scales"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--width", type=int, required=True, help="how many numbers of each vector to keep")
    options = parser.parse_args()
    path = options.checkpoint / "word_vectors.safetensors"
    tensors = safetensors.numpy.load_file(path)
    vectors = (tensors[CODES] * tensors[SCALES][:, None])[:, : options.width]
    scales = (np.abs(vectors).max(axis=1) / 127).astype(np.float32)
    codes = np.round(vectors / np.where(scales > 0, scales, 1)[:, None]).astype(np.int8)
    safetensors.numpy.save_file({CODES: np.ascontiguousarray(codes), SCALES: scales}, path)


if __name__ == "__main__":
    main()
