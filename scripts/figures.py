#!/usr/bin/env python3
"""Updates the tables of the documentation from the outputs of the commands that print them.

    scripts/readme_examples.sh --log figures/readme.log          # quickstart, finetune
    scripts/bench/quality.py CHECKPOINT .. > figures/quality.md
    scripts/bench/runtimes.py .. > figures/runtimes.md
    scripts/figures.py figures/ [--check]

In a page, a table is between `<!-- figures: NAME -->` and `<!-- end of figures -->`. NAME is a `COMMAND` of the log (for the
table that `needle COMMAND` prints), or the file NAME.md of the directory. Tables that the directory lacks stay as they are.

--check  change nothing, and exit with 1 if a page's table has other rows than its command prints; for runs on a small scale,
         whose figures are meaningless
"""

import argparse
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- figures: (?P<name>[a-z_]+) -->\n)(?P<body>.*?)(<!-- end of figures -->)", re.DOTALL)


def commands(log):
    """The output of each command of a log, by the command's name."""
    found = {}
    for part in re.split(r"^\$ ", log, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        words = [word for word in command.split() if word not in ("cargo", "run", "--release", "--", "needle")]
        # The first one of each name counts.
        found.setdefault(words[0], output)
    return found


def printed_table(output):
    """The metrics, from `on N examples` to an empty line or a line without columns."""
    lines = output.splitlines()
    start = next((i for i, line in enumerate(lines) if re.match(r"on \d+ (test )?examples\b.*\S", line)), None)
    if start is None:
        return None
    table = []
    for line in lines[start:]:
        if not re.search(r"\s{2,}\S+$", line):
            break
        table.append(line.rstrip())
    return "```text\n" + "\n".join(table) + "\n```\n"


def tables(place):
    """All tables of the directory, by name."""
    found = {path.stem: path.read_text(encoding="utf-8").strip() + "\n" for path in place.glob("*.md")}
    log = place / "readme.log"
    if log.exists():
        for name, output in commands(log.read_text(encoding="utf-8")).items():
            table = printed_table(output)
            if table:
                found[name] = table
    return found


def labels(table):
    """The names of the rows, without their figures and without rows that depend on the examples drawn."""
    rows = []
    for line in table.splitlines():
        cells = line.strip("| ").split("|") if line.startswith("|") else re.split(r"\s{2,}", line)
        label = re.sub(r"\d+", "N", cells[0].strip())
        if label and not re.match(r"(```|-+$|exact, N offered)", label):
            rows.append(label)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place", type=pathlib.Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    found, wrong, used = tables(options.place), [], set()
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text(encoding="utf-8")

        def put(block):
            name, body = block["name"], block["body"]
            if name not in found:
                return block[0]
            used.add(name)
            if labels(body) != labels(found[name]):
                wrong.append(f"{page.relative_to(ROOT)}: the rows of {name!r} are {labels(body)}, the command prints {labels(found[name])}")
            return block[1] + found[name] + block[4]

        new = BLOCK.sub(put, text)
        if not options.check and new != text:
            page.write_text(new, encoding="utf-8")
            print(f"{page.relative_to(ROOT)}: written")
    if options.check:
        print(f"{len(used)} tables of the documentation have the rows that their commands print: {', '.join(sorted(used))}" if not wrong else "\n".join(wrong))
        sys.exit(1 if wrong or not used else 0)


if __name__ == "__main__":
    main()
