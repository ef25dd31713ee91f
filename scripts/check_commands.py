#!/usr/bin/env python3
"""Checks that each `needle` command in the documentation exists, with its subcommands and options.

    scripts/check_commands.py NEEDLE PAGE..

Reads the `console` blocks of the pages, and every `--option` that a page names beside a command, and
compares them with `NEEDLE --help`, subcommand by subcommand. NEEDLE is the binary.
"""

import functools
import re
import shlex
import subprocess
import sys
from pathlib import Path

# A word that runs `needle`, with or without a path.
NAMES = re.compile(r"^(?:\S*/)?needle$")


class Command:
    """A command or subcommand as its `--help` describes it."""

    def __init__(self, needle, path):
        help_text = subprocess.run(
            [needle, *path, "--help"], check=True, capture_output=True, text=True
        ).stdout
        self.subcommands, self.options, section = set(), {}, ""
        for line in help_text.splitlines():
            if line and not line[0].isspace():
                section = line
            elif section == "Commands:" and (name := re.match(r"  (\S+)", line)):
                self.subcommands.add(name[1])
            elif option := re.match(r" {2,6}(?:(-\w), )?(--[\w-]+)?(.*)", line):
                takes_value = bool(re.match(r" <|\.\.\. <", option[3]))
                for name in filter(None, option.groups()[:2]):
                    self.options[name] = takes_value


@functools.cache
def command(needle, *path):
    return Command(needle, path)


def console_commands(text):
    """Line number and text of each command in a `console` block; continued lines are joined."""
    is_console, joined, begin = False, "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            is_console = line == "```console"
        elif is_console and (joined or line.startswith("$ ")):
            begin = begin if joined else number
            joined += line.removeprefix("$ ") if not joined else line
            if joined.endswith("\\"):
                joined = joined[:-1] + " "
                continue
            yield begin, joined
            joined = ""


def problems(needle, line):
    """The problems of the commands in one line of shell."""
    words = shlex.split(line, comments=True)
    if words[:4] == ["cargo", "run", "--release", "--"]:
        words = ["needle", *words[4:]]
    # After an option, the word is the option's value: `script --needle target/release/needle`.
    is_command = lambda i: NAMES.match(words[i]) and not words[max(i - 1, 0)].startswith("--")
    at = next(filter(is_command, range(len(words))), None)
    if at is None:
        return
    words, path = words[at + 1 :], []
    while words and words[0] in command(needle, *path).subcommands:
        path.append(words.pop(0))
    known = command(needle, *path)
    if known.subcommands:
        yield f"needle {' '.join(path)}: no subcommand {words[0] if words else ''}"
        return
    for word in words:
        if word in ("|", ">", ">>", "&&", ";"):
            break
        option = word.split("=")[0]
        if re.match(r"--?[a-z]", option) and option not in known.options:
            yield f"needle {' '.join(path)}: no option {option}"


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    needle, pages = sys.argv[1], sys.argv[2:]
    num_checked, wrong = 0, []
    for page in pages:
        for number, line in console_commands(Path(page).read_text()):
            num_checked += 1
            wrong += [f"{page}:{number}: {problem}" for problem in problems(needle, line)]
    if wrong:
        sys.exit("\n".join(wrong))
    if num_checked == 0:
        sys.exit("found no console block")
    print(f"{num_checked} commands of {len(pages)} pages exist")


if __name__ == "__main__":
    main()
