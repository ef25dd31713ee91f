#!/usr/bin/env python3
"""Prints a table of a base model's quality, with answers as `needle run` gives them: INT4, constrained to the offered tools.

    scripts/bench/quality.py CHECKPOINT [--needle FILE] [--data DIR] [--suites DIR] [--bfcl DIR]
                             [--finetune] [--limit N] [--out DIR]

--data     files of human-written examples: DOMAIN.train.jsonl with DOMAIN.validation.jsonl under domains/, and
           snips, hwu64 and sgd as NAME.validation.jsonl.gz; missing sets are skipped
--suites   acceptance suites (`needle eval --suite`)
--bfcl     questions of BFCL, with their answers in possible_answer/
--finetune also finetune the checkpoint on each domain's training examples, and measure again, which takes minutes each
--limit    only the first N examples of each set
--out      save quality.json and the finetuned models in this directory; by default nothing is saved

The table goes to stdout. The domains' validation files are for choosing settings, so figures on them are not those of
a test set. Needs only Python's standard library.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

HUMAN_SETS = ["snips", "hwu64", "sgd"]
HELD_OUT_EXAMPLES = 500


class Needle:
    """The `needle` command, with the limit that all measurements share."""

    def __init__(self, binary, limit):
        self.binary, self.limit = binary, limit

    def run(self, *args):
        command = [str(self.binary), *map(str, args)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        # A suite that does not pass exits with 1, but still prints its result.
        if done.returncode and not ("--suite" in args and done.stdout):
            sys.exit(f"{' '.join(command)}: exit {done.returncode}")
        return done.stdout

    def eval(self, checkpoint, data, *more):
        limit = ["--limit", self.limit] if self.limit else []
        return json.loads(self.run("eval", checkpoint, data, "--json", "--quiet", *limit, *more))


def row(name, result):
    """The columns of the table, from the JSON of `needle eval`."""
    keys = ["n", "exact_match", "call_f1", "name_f1", "value_accuracy", "no_tool_precision", "no_tool_recall", "recall_at_5"]
    return {"set": name, **{key: result.get(key) for key in keys}}


def table(rows):
    """A Markdown table, with a dash where a set has no figure."""
    titles = ["set", "n", "exact match", "call F1", "name F1", "values", "no-tool precision", "no-tool recall", "recall@5"]
    cell = lambda value: "-" if value is None else value if isinstance(value, str) else f"{value:.3f}" if isinstance(value, float) else str(value)
    lines = ["| " + " | ".join(titles) + " |", "|" + " --- |" * len(titles)]
    lines += ["| " + " | ".join(cell(value) for value in row.values()) + " |" for row in rows]
    return "\n".join(lines)


def mean(name, results):
    """The unweighted mean of some rows."""
    if not results:
        return []
    keys = [key for key in results[0] if key not in ("set", "n")]
    present = {key: [r[key] for r in results if r[key] is not None] for key in keys}
    means = {key: sum(values) / len(values) if values else None for key, values in present.items()}
    return [{"set": name, "n": sum(r["n"] for r in results), **means}]


def domains(needle, checkpoint, data, out, finetunes):
    """The rows of the domains: zero-shot and, with --finetune, finetuned."""
    rows = []
    sets = sorted(data.glob("domains/*.validation.jsonl"))
    zero_shot = [row(f"{path.name.split('.')[0]}, zero-shot", needle.eval(checkpoint, path)) for path in sets]
    rows += zero_shot + mean("domains, zero-shot (mean)", zero_shot)
    if not finetunes:
        return rows
    tuned = []
    for path in sets:
        name = path.name.split(".")[0]
        run = out / f"finetuned-{name}"
        needle.run("finetune", path.with_name(f"{name}.train.jsonl"), "--base", checkpoint, "--out", run, "--quiet")
        tuned.append(row(f"{name}, finetuned", needle.eval(run / "best", path)))
    return rows + tuned + mean("domains, finetuned (mean)", tuned)


def suites(needle, checkpoint, place):
    """The categories of all suites together, and each suite's verdict."""
    verdicts = [json.loads(needle.run("eval", checkpoint, "--suite", path, "--json", "--quiet")) for path in sorted(place.glob("*.json"))]
    categories = {}
    for verdict in verdicts:
        for name, tally in verdict["categories"].items():
            both = categories.setdefault(name, {"n": 0, "exact": 0})
            both["n"] += tally["n"]
            both["exact"] += tally["exact"]
    rows = [row(f"suites: {name}", {"n": t["n"], "exact_match": t["exact"] / t["n"]}) for name, t in sorted(categories.items())]
    return rows, verdicts


def bfcl(needle, checkpoint, place):
    """BFCL's own accuracy, for each file that has answers."""
    rows = []
    for path in sorted(place.glob("BFCL_*.json")):
        answers = place / "possible_answer" / path.name
        result = needle.eval(checkpoint, path, *(["--answers", answers] if answers.exists() else []))
        rows.append(row(f"{path.stem} (accuracy)", {"n": result["n"], "exact_match": result["bfcl_accuracy"]}))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    root = pathlib.Path(__file__).resolve().parents[2]
    parser.add_argument("--needle", type=pathlib.Path, default=root / "target/release/needle")
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--suites", type=pathlib.Path)
    parser.add_argument("--bfcl", type=pathlib.Path)
    parser.add_argument("--finetune", action="store_true")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    needle = Needle(options.needle, options.limit)
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or pathlib.Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        invented = out / "invented-held-out.jsonl"
        invented.write_text(needle.run("data", "synth", "--invented", "--held-out", "--count", HELD_OUT_EXAMPLES, "--seed", 7, "--quiet"))
        rows = [row("invented tools, held out", needle.eval(options.checkpoint, invented))]
        verdicts = []
        if options.data:
            rows += domains(needle, options.checkpoint, options.data, out, options.finetune)
            paths = [options.data / f"{name}.validation.jsonl.gz" for name in HUMAN_SETS]
            rows += [row(f"{path.name.split('.')[0]}, zero-shot", needle.eval(options.checkpoint, path)) for path in paths if path.exists()]
        if options.suites:
            more, verdicts = suites(needle, options.checkpoint, options.suites)
            rows += more
        if options.bfcl:
            rows += bfcl(needle, options.checkpoint, options.bfcl)
        print(table(rows))
        for verdict in verdicts:
            print(f"suite {verdict['suite']}: {'passed' if verdict['passed'] else 'failed'}, {verdict['exact_match']:.3f} exact")
        if options.out:
            (options.out / "quality.json").write_text(json.dumps({"rows": rows, "suites": verdicts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
