#!/usr/bin/env python3
"""The part of `cargo deny check` that needs only Cargo: checks that every dependency comes from the registry, under a licence
that deny.toml allows."""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

rules = tomllib.loads((pathlib.Path(__file__).parents[1] / "deny.toml").read_text())
allowed = set(rules["licenses"]["allow"])


def is_allowed(expression):
    """Whether an SPDX expression can be met with the allowed licences alone."""
    tokens = re.findall(r"\(|\)|[^\s()]+(?: WITH [^\s()]+)?", expression.replace("/", " OR "))
    words = {"(": "(", ")": ")", "AND": "and", "OR": "or"}
    # `eval` sees only brackets, and, or, True and False.
    return eval(" ".join(words.get(token, str(token in allowed)) for token in tokens))


metadata = json.loads(subprocess.check_output(["cargo", "metadata", "--format-version=1", "--locked", "--all-features"]))
wrong = []
for package in metadata["packages"]:
    name = f"{package['name']} {package['version']}"
    if package["source"] and not package["source"].startswith("registry+"):
        wrong.append(f"{name} comes from {package['source']}")
    if package["source"] and not (package["license"] and is_allowed(package["license"])):
        wrong.append(f"{name} has the licence {package['license']!r}, which deny.toml does not allow")
print("\n".join(wrong) or f"{len(metadata['packages'])} packages: licences and sources are allowed")
sys.exit(1 if wrong else 0)
