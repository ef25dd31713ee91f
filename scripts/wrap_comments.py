#!/usr/bin/env python3
"""Wraps the line comments of Rust files and the prose of Markdown pages at 100 columns.

    scripts/wrap_comments.py            wrap every paragraph that has a longer line
    scripts/wrap_comments.py --check    list the longer lines; exit 1 if there is one

Code blocks, tables, headings and link definitions stay as they are, and so does a line that is long
only because of a link or of another word that cannot be broken. Files are those that git tracks.
"""

import re
import subprocess
import sys
from pathlib import Path

WIDTH = 100
ROOT = Path(__file__).resolve().parent.parent
MARKDOWN = ["README.md", "CHANGELOG.md", "docs/*.md"]
# Test data, and files from other projects.
EXCLUDED = ("tests/fixtures/", "needle-runtime/tests/json-schema-test-suite/")

COMMENT = re.compile(r"^(?P<indent>[ \t]*)(?P<marker>///?|//!)(?: (?P<text>.*))?$")
ITEM = re.compile(r"^(?P<bullet> *(?:[-*+]|\d+[.)]) (?:\[[ x]\] )?)(?P<text>.*)$")
# At the beginning of a line, these words would turn prose into a list, a heading or a table.
SPECIAL = re.compile(r"^(?:[-+*#>|=~]+|\d+[.)])$|^[|#>]|^```")


def words(text):
    """The words of `text`; what is in backticks is one word, and so is what must not begin a line."""
    joined = re.sub(r"`[^`]*`", lambda span: span.group().replace(" ", "\0"), text)
    found = []
    for word in joined.split():
        if found and SPECIAL.match(word.replace("\0", " ")):
            found[-1] += "\0" + word
        else:
            found.append(word)
    return [word.replace("\0", " ") for word in found]


def filled(text, first, rest):
    """Lines of at most WIDTH columns; the first begins with `first`, the others with `rest`."""
    lines, line, is_empty = [], first, True
    for word in words(text):
        if not is_empty and len(line) + 1 + len(word) > WIDTH:
            lines.append(line)
            line, is_empty = rest, True
        line += word if is_empty else " " + word
        is_empty = False
    return [*lines, line]


class Wrapper:
    """Wraps the prose of a page, each line of which begins with `prefix`."""

    def __init__(self, prefix):
        self.prefix = prefix
        self.lines = []
        self.paragraph = []
        self.bullet = ""
        self.is_code = False

    def flush(self):
        if not self.paragraph:
            return
        begin = self.prefix + self.bullet
        # Continued lines of a list item are indented as far as its text.
        old = [begin + self.paragraph[0][0]]
        old += [self.prefix + spaces + text for text, spaces in self.paragraph[1:]]
        if all(len(line) <= WIDTH for line in old):
            self.lines += old
        else:
            task = re.match(r" *[-*+] ", self.bullet)
            hang = " " * (len(task.group()) if task else len(self.bullet))
            text = " ".join(text for text, _ in self.paragraph)
            self.lines += filled(text, begin, self.prefix + hang)
        self.paragraph, self.bullet = [], ""

    def keep(self, text):
        self.flush()
        self.lines.append((self.prefix + text).rstrip())

    def add(self, text):
        stripped = text.strip()
        if stripped.startswith("```") or stripped.startswith("~~~"):
            self.is_code = not self.is_code
            self.keep(text)
        elif self.is_code or not stripped or stripped.startswith(("|", "#", "<", "[^")):
            self.keep(text)
        elif re.match(r"^\[[^\]]+\]: ", stripped):
            self.keep(text)
        elif item := ITEM.match(text):
            self.flush()
            self.bullet = item["bullet"]
            self.paragraph = [(item["text"], "")]
        elif text.startswith("    ") and not self.paragraph:
            self.keep(text)
        else:
            spaces = text[: len(text) - len(text.lstrip())]
            if not self.paragraph:
                self.bullet = spaces
            self.paragraph.append((stripped, spaces))


def wrapped_markdown(lines):
    page = Wrapper("")
    for line in lines:
        page.add(line)
    page.flush()
    return page.lines


def wrapped_rust(lines):
    result, block, before = [], None, None
    in_raw_string = None
    for line in lines:
        comment = None if in_raw_string else COMMENT.match(line)
        key = comment and (comment["indent"], comment["marker"])
        if block and key != before:
            block.flush()
            result += block.lines
            block = None
        before = key
        if comment and not line.lstrip().startswith("////"):
            if block is None:
                block = Wrapper(f"{comment['indent']}{comment['marker']} ")
            block.add(comment["text"] or "")
            continue
        before = None
        result.append(line)
        # Lines of a raw string are data, whatever they look like.
        if in_raw_string is None:
            opened = re.search(r'\br(#*)"', line.split("//")[0])
            if opened and f'"{opened[1]}' not in line[opened.end():]:
                in_raw_string = f'"{opened[1]}'
        elif in_raw_string in line:
            in_raw_string = None
    if block:
        block.flush()
        result += block.lines
    return result


def files():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.rs", *MARKDOWN],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )
    for name in listed.stdout.splitlines():
        if not name.startswith(EXCLUDED) and (ROOT / name).is_file():
            yield ROOT / name


def main():
    is_check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not is_check:
        sys.exit(__doc__)
    num_long = 0
    for path in files():
        text = path.read_text()
        old = text.split("\n")
        new = (wrapped_rust if path.suffix == ".rs" else wrapped_markdown)(old)
        if new == old:
            continue
        if not is_check:
            path.write_text("\n".join(new))
            continue
        kept = set(new)
        for number, line in enumerate(old, 1):
            if len(line) > WIDTH and line not in kept:
                num_long += 1
                print(f"{path.relative_to(ROOT)}:{number}: {len(line)} columns, at most {WIDTH}")
    if num_long:
        sys.exit(f"{num_long} lines are too long; scripts/wrap_comments.py wraps them")


if __name__ == "__main__":
    main()
