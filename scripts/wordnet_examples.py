#!/usr/bin/env python3
"""Training rows that teach a model to choose a tool by its meaning, made of WordNet.

    apt-get install wordnet-base
    scripts/wordnet_examples.py --count 250000 --seed 7 > wordnet.jsonl

A tool is a sense of a word: its name is one of the words, its description the gloss; it has no parameters. The request is a sentence
that WordNet gives for the sense (sometimes with a synonym in place of the word), the gloss itself, or a single word. The other tools
on offer are senses of the same part of speech, every fifth one a sibling of the right one. Where the sentence has the word itself,
the tool mostly goes by a synonym, or by a nonsense name that only its gloss explains. 15 % of the rows have two requests, in 6 % no
tool fits. Princeton's licence of WordNet permits all of this: /usr/share/doc/wordnet-base/copyright.
"""

import argparse
import collections
import json
import pathlib
import random
import re
import sys

PARTS_OF_SPEECH = {"verb": 55, "noun": 25, "adj": 14, "adv": 6}
STYLES = ["snake", "snake", "kebab", "camel", "pascal", "plain"]
SYLLABLES = "ba ko ri tu ne la mo sa ve zi pu do fa gi lo nu re ti wa xe".split()
JOINTS = [", and ", "; ", ". ", ", then ", " and "]
LONGEST_QUERY = 220
LONGEST_NAME = 40


class Sense:
    """A line of WordNet's data files (wndb(5WN))."""

    def __init__(self, part, line):
        head, text = line.split(" | ", 1)
        fields = head.split(" ")
        self.part, self.key = part, (part[0], fields[0])
        count = int(fields[3], 16)
        self.words = [re.sub(r"\(.*\)", "", fields[4 + 2 * i]) for i in range(count)]
        first = 4 + 2 * count
        pointers = [fields[first + 1 + 4 * i : first + 4 + 4 * i] for i in range(int(fields[first]))]
        # A more general sense, or for an adjective the one that it is similar to.
        self.parents = [("a" if part == "s" else part, offset) for symbol, offset, part in pointers if symbol in ("@", "&")]
        self.sentences = [s.strip() for s in re.findall(r'"([^"]{8,160})"', text)]
        self.gloss = re.sub(r"^\(.*?\)\s*", "", text.strip().split('; "')[0].split(";")[0].strip())

    def is_ordinary(self):
        """No digits or abbreviations, and no names of persons or places."""
        is_plain = re.fullmatch(r"[A-Za-z'_ -]+", "".join(self.words)) is not None
        return is_plain and (self.part != "noun" or (self.words[0].islower() and self.parents))


class WordNet:
    def __init__(self, directory):
        self.senses, self.children = {}, collections.defaultdict(list)
        for part in PARTS_OF_SPEECH:
            for line in (directory / f"data.{part}").read_text(encoding="utf-8").splitlines():
                if not line.startswith("  "):
                    sense = Sense(part, line)
                    self.senses[sense.key] = sense
        for sense in self.senses.values():
            for parent in sense.parents:
                self.children[parent].append(sense)
        self.by_part = {part: [s for s in self.senses.values() if s.part == part and s.is_ordinary()] for part in PARTS_OF_SPEECH}
        self.with_sentences = {part: [s for s in senses if s.sentences] for part, senses in self.by_part.items()}

    def siblings(self, sense):
        return [child for parent in sense.parents for child in self.children[parent] if child is not sense]


def spoken(word):
    return word.replace("_", " ")


def occurs(word, text):
    """Whether the word, or another form of it, stands in the text."""
    stem = spoken(word).lower()[: max(4, len(word) - 2)]
    return f" {stem}" in " " + re.sub(r"[^a-z ]", " ", text.lower())


def styled(word, style):
    words = [part.lower() for part in re.split(r"[_\s-]+", word.replace("'", "")) if part]
    capitals = "".join(part.capitalize() for part in words)
    joined = {"snake": "_".join(words), "kebab": "-".join(words), "pascal": capitals, "plain": " ".join(words)}
    return joined.get(style) or words[0] + capitals[len(words[0]) :]


def nonsense(style, rng):
    name = "".join(rng.choice(SYLLABLES) for _ in range(rng.choice([2, 2, 3])))
    return name if style in ("snake", "kebab") else name.capitalize()


def tool(sense, query, style, rng):
    if rng.random() < 0.12:
        return {"name": nonsense(style, rng), "description": sense.gloss, "parameters": {}}
    others = [word for word in sense.words if not occurs(word, query)]
    word = rng.choice(others if others and rng.random() < 0.75 else sense.words)
    made = {"name": styled(word, style)}
    if word not in others or rng.random() < 0.6:
        gloss = sense.gloss
        if rng.random() < 0.3:
            gloss = gloss[:1].upper() + gloss[1:] + rng.choice([".", ""])
        made["description"] = gloss
    return made | {"parameters": {}}


def request(part, wordnet, rng):
    """A sense, and words that ask for it."""
    draw = rng.random()
    if draw < 0.75:
        sense = rng.choice(wordnet.with_sentences[part])
        sentence = rng.choice(sense.sentences)
        if rng.random() < 0.3:
            for word in sense.words:
                found = re.search(rf"\b{re.escape(spoken(word))}\b", sentence, re.IGNORECASE)
                synonyms = [other for other in sense.words if other != word]
                if found and synonyms:
                    sentence = sentence[: found.start()] + spoken(rng.choice(synonyms)) + sentence[found.end() :]
                    break
        return sense, sentence
    sense = rng.choice(wordnet.by_part[part])
    return sense, sense.gloss if draw < 0.9 else spoken(rng.choice(sense.words))


def others_on_offer(sense, count, wordnet, rng):
    """Senses that have no word in common with this one."""
    found, siblings = [], wordnet.siblings(sense)
    while len(found) < count:
        draw = rng.random()
        if siblings and draw < 0.2:
            other = siblings.pop(rng.randrange(len(siblings)))
        else:
            part = sense.part if draw < 0.85 else rng.choice(list(PARTS_OF_SPEECH))
            other = rng.choice(wordnet.by_part[part])
        if other is not sense and other not in found and not set(other.words) & set(sense.words):
            found.append(other)
    return found


def row(wordnet, rng):
    """A training row, or None if what was drawn cannot be used."""
    parts, weights = zip(*PARTS_OF_SPEECH.items())
    part = rng.choices(parts, weights)[0]
    style = rng.choice(STYLES)
    sense, query = request(part, wordnet, rng)
    called = [sense]
    if rng.random() < 0.15:
        second, more = request(part, wordnet, rng)
        if not set(second.words) & set(sense.words):
            called.append(second)
            query += rng.choice(JOINTS) + more
    others = others_on_offer(sense, rng.choice([1, 2, 3, 3, 4, 4, 5, 5, 6]), wordnet, rng)
    if rng.random() < 0.06:
        called = []
    senses = called + [other for other in others if other not in called]
    tools = [tool(sense, query, style, rng) for sense in senses]
    names = [tool["name"] for tool in tools]
    if len(set(names)) < len(names) or max(map(len, names)) > LONGEST_NAME or len(query) > LONGEST_QUERY:
        return None
    answers = [{"name": name, "arguments": {}} for name in names[: len(called)]]
    rng.shuffle(tools)
    return {"query": query.lower() if rng.random() < 0.15 else query, "tools": tools, "answers": answers}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=250_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--wordnet", type=pathlib.Path, default=pathlib.Path("/usr/share/wordnet"), help="directory of data.verb and others")
    options = parser.parse_args()
    if not (options.wordnet / "data.verb").is_file():
        sys.exit(f"{options.wordnet} has no data.verb: apt-get install wordnet-base, or name another directory by --wordnet")
    wordnet, rng, written = WordNet(options.wordnet), random.Random(options.seed), 0
    while written < options.count:
        if made := row(wordnet, rng):
            sys.stdout.write(json.dumps(made, ensure_ascii=False) + "\n")
            written += 1


if __name__ == "__main__":
    main()
