"""Compares our scorer for the Berkeley Function Calling Leaderboard with the leaderboard's own, on the same answers.

    python3 -m venv venv
    venv/bin/pip install --no-deps bfcl-eval tree_sitter==0.21.3 tree-sitter-java==0.21.0 tree-sitter-javascript==0.21.4
    cargo build -p needle-train --example score_bfcl
    venv/bin/python scripts/check_bfcl.py [--needle target/debug/needle --checkpoint runs/home/best]

Uses every question of every single-turn category of the package. The answers are made from the possible ones: each acceptable
value, and possible mistakes in a value, an argument, a call or a list of calls. With --checkpoint, a model's own answers and its
accuracy are compared, too. Exits with 1 if any Python category differs or leaves a question out.

The leaderboard reads Java and JavaScript as source text and converts it to values, while a model that writes JSON is asked for
the values themselves. Here values are written as source text for the leaderboard; differences in these two are only listed.
"""

import argparse
import collections
import copy
import json
import subprocess
import sys
import tempfile
import types
from pathlib import Path

# The package's table of models imports the client libraries of all of them, but the checker needs only one entry.
_models = types.ModuleType("bfcl_eval.constants.model_config")
_models.MODEL_CONFIG_MAPPING = {"needle": types.SimpleNamespace(underscore_to_dot=False)}
sys.modules["bfcl_eval.constants.model_config"] = _models

import bfcl_eval  # noqa: E402
from bfcl_eval.constants.category_mapping import SINGLE_TURN_CATEGORY, VERSION_PREFIX  # noqa: E402
from bfcl_eval.constants.enums import Language  # noqa: E402
from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker  # noqa: E402

DATA = Path(bfcl_eval.__file__).parent / "data"
LANGUAGES = {"simple_java": Language.JAVA, "simple_javascript": Language.JAVASCRIPT}


def rows(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


# Answers


def first(value):
    """The first acceptable form of a value: inside an object, each member has a list of values."""
    if not isinstance(value, dict):
        return value
    chosen = {}
    for key, values in value.items():
        if not isinstance(values, list):
            chosen[key] = values
        elif values and values[0] != "":
            chosen[key] = first(values[0])
    return chosen


def reference(truth):
    """The calls with the first possible value everywhere."""
    calls = []
    for entry in truth:
        (name, arguments), *_ = entry.items()
        chosen = {key: first(values[0]) for key, values in arguments.items() if values and values[0] != ""}
        calls.append({"name": name, "arguments": chosen})
    return calls


def spoiled(value):
    """Values that are like `value`, some of them acceptable, some not."""
    yield None
    if isinstance(value, bool):
        yield from (not value, str(value).lower(), int(value))
    elif isinstance(value, (int, float)):
        yield from (float(value), value + 1, -value, str(value), True, [value])
        if value == int(value):
            yield int(value)
    elif isinstance(value, str):
        yield from (value.upper(), value.lower(), f" {value}. ", value.replace(" ", ""), value + " x", "", [value], 1, f"'{value}'")
        yield value.replace("-", "/").replace(", ", ",")
    elif isinstance(value, list):
        yield from ([], value[::-1], value + value[:1], value[:-1], {}, str(value))
        for i, element in enumerate(value):
            for other in spoiled(element):
                yield value[:i] + [other] + value[i + 1 :]
    elif isinstance(value, dict):
        yield from ({}, {**value, "zzz": 1}, [value], [])
        for key, member in value.items():
            yield {k: v for k, v in value.items() if k != key}
            for other in spoiled(member):
                yield {**value, key: other}


def made_answers(question, truth):
    """The reference, variations of it, and the reference with each other possible value and variations of that."""
    calls = reference(truth)
    functions = question["function"]
    yield calls
    yield []
    yield calls[::-1]
    yield calls[:-1]
    yield calls + calls[:1]
    for i, (call, entry) in enumerate(zip(calls, truth)):

        def but(name=call["name"], arguments=call["arguments"]):
            return calls[:i] + [{"name": name, "arguments": arguments}] + calls[i + 1 :]

        given = call["arguments"]
        possible = next(iter(entry.values()))
        yield but(name=call["name"] + "_x")
        yield but(arguments={})
        yield but(arguments={**given, "zzz": 1})
        for function in functions:
            yield but(name=function["name"])
            if function["name"] == call["name"]:
                for name in function["parameters"]["properties"]:
                    if name not in given:
                        yield from (but(arguments={**given, name: other}) for other in ("", "x", 1, 1.5, True, [], {}))
        for name, values in possible.items():
            yield but(arguments={k: v for k, v in given.items() if k != name})
            for value in values:
                if value == "" and name not in given:
                    continue
                yield but(arguments={**given, name: first(value)})
                yield but(arguments={**given, name: value})
                yield from (but(arguments={**given, name: other}) for other in spoiled(first(value)))


# The leaderboard's verdict


def java(value, declared, element):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"{value}{ {'long': 'L', 'float': 'f'}.get(declared, '') }"
    if isinstance(value, list):
        # The package keeps the quotes of texts in an Array, and strips the first and last character of those in an ArrayList.
        texts = [java(v, element, None) for v in value]
        if declared == "ArrayList":
            texts = [f'"{t}"' if isinstance(v, str) and element in ("String", None) else t for t, v in zip(texts, value)]
            return f"new ArrayList<>(Arrays.asList({', '.join(texts)}))" if value else "new ArrayList<>()"
        return f"new T[]{{{', '.join(texts)}}}"
    if isinstance(value, dict):
        members = [f"put(\"{k}\", {json.dumps(v) if isinstance(v, str) else java(v, None, None)});" for k, v in value.items()]
        return f"new HashMap<>() {{{{ {' '.join(members)} }}}}" if value else "new HashMap<>()"
    return "null" if value is None else value


def javascript(value, declared, element):
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def as_source(calls, question, write):
    declared = {f["name"]: f["parameters"]["properties"] for f in question["function"]}
    out = []
    for call in calls:
        specs = declared.get(call["name"], {})
        arguments = {}
        for key, value in call["arguments"].items():
            spec = specs.get(key, {})
            arguments[key] = write(value, spec.get("type"), spec.get("items", {}).get("type"))
        out.append({"name": call["name"], "arguments": arguments})
    return out


def official(category, question, truth, calls):
    """The leaderboard's verdict, or the exception that its checker raises. `calls` is None if the answer is not a list of calls."""
    if "relevance" in category:
        # An answer that cannot be parsed counts as no call.
        return bool(calls) != ("irrelevance" in category)
    calls = calls or []
    language = LANGUAGES.get(category, Language.PYTHON)
    if language is not Language.PYTHON:
        calls = as_source(calls, question, java if language is Language.JAVA else javascript)
    output = [{call["name"]: call["arguments"]} for call in copy.deepcopy(calls)]
    if not output:
        # The leaderboard counts an empty list as an answer in a wrong format.
        return False
    try:
        return ast_checker(question["function"], output, truth, language, category, "needle")["valid"]
    except Exception as error:  # noqa: BLE001
        return error


# Ours


def files(category):
    name = f"{VERSION_PREFIX}_{category}.json"
    possible = DATA / "possible_answer" / name
    return DATA / name, possible if possible.exists() else None


def ours(score, category, answers):
    question_file, possible_file = files(category)
    paths = [str(path) for path in (question_file, possible_file) if path]
    lines = "".join(json.dumps({"id": id, "calls": calls}, ensure_ascii=False) + "\n" for id, calls in answers)
    run = subprocess.run([score, *paths], input=lines, stdout=subprocess.PIPE, text=True, check=True)
    return [line == "true" for line in run.stdout.splitlines()]


def asked(needle, checkpoint, category, limit):
    """A model's answers, with the result of `needle eval`."""
    question_file, possible_file = files(category)
    with tempfile.TemporaryDirectory() as folder:
        predictions = Path(folder) / "predictions.jsonl"
        more = ["--answers", str(possible_file)] if possible_file else []
        more += ["--limit", str(limit)] if limit else []
        command = [needle, "eval", checkpoint, str(question_file), *more, "--predictions", str(predictions), "--json", "-q"]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(run.stdout), rows(predictions)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--score", default="target/debug/examples/score_bfcl", help="the built example score_bfcl")
    parser.add_argument("--needle", default="target/debug/needle", help="the needle command, for --checkpoint")
    parser.add_argument("--checkpoint", help="also compare a model's own answers")
    parser.add_argument("--limit", type=int, help="at most this many questions of each category")
    parser.add_argument("--show", type=int, default=10, help="differences to show for each category")
    args = parser.parse_args()
    failed = False
    print(f"{'category':<24}{'questions':>10}{'answers':>9}{'accepted':>9}{'differ':>8}{'raised':>8}", flush=True)
    for category in SINGLE_TURN_CATEGORY:
        question_file, possible_file = files(category)
        questions = {row["id"]: row for row in rows(question_file)[: args.limit]}
        truths = {row["id"]: row["ground_truth"] for row in rows(possible_file)} if possible_file else {}
        answers = []
        for id, question in questions.items():
            if id in truths:
                seen = set()
                for calls in made_answers(question, truths[id]):
                    key = json.dumps(calls)
                    if key not in seen:
                        seen.add(key)
                        answers.append((id, calls))
            else:
                call = [{"name": f["name"], "arguments": {}} for f in question["function"][:1]] or [{"name": "x", "arguments": {}}]
                answers += [(id, []), (id, call), (id, None)]
        differ, raised, accepted = [], collections.Counter(), 0
        for (id, calls), is_ours in zip(answers, ours(args.score, category, answers), strict=True):
            verdict = official(category, questions[id], truths.get(id), calls)
            if isinstance(verdict, Exception):
                raised[type(verdict).__name__] += 1
                continue
            accepted += verdict
            if verdict != is_ours:
                differ.append((id, verdict, calls))
        print(f"{category:<24}{len(questions):>10}{len(answers):>9}{accepted:>9}{len(differ):>8}{raised.total():>8}", flush=True)
        for id, verdict, calls in differ[: args.show]:
            print(f"    {id}: the leaderboard says {'right' if verdict else 'wrong'}, we {'wrong' if verdict else 'right'}: {json.dumps(calls, ensure_ascii=False)}")
        if len(differ) > args.show:
            print(f"    and {len(differ) - args.show} more")
        failed |= bool(differ) and category not in LANGUAGES
        if args.checkpoint:
            result, predictions = asked(args.needle, args.checkpoint, category, args.limit)
            calls = {row["id"]: row["predicted"] for row in predictions}
            verdicts = {id: official(category, q, truths.get(id), calls[id]) if id in calls else None for id, q in questions.items()}
            left_out = [id for id, verdict in verdicts.items() if verdict is None]
            wrong = [row["id"] for row in predictions if (verdicts[row["id"]] is True) != row["bfcl_accepted"]]
            accuracy = sum(verdict is True for verdict in verdicts.values()) / len(questions)
            print(f"    the model: accuracy {result['bfcl_accuracy']:.4f}, the leaderboard's {accuracy:.4f}; differ {len(wrong)}; left out {len(left_out)}", flush=True)
            failed |= bool(left_out) or (bool(wrong) and category not in LANGUAGES)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
