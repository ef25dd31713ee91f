#!/usr/bin/env python3
"""Measures speed, load time and memory of one INT4 model in several runtimes, interleaved in one run:

    scripts/bench/runtimes.py [CHECKPOINT] [--needle target/release/needle] [--rounds 7]
        [--prompts 200,800] [--threads 1,2] [--tokens 64] [--only ours,rten,..] [--json FILE]

Without a checkpoint, the model has the published sizes and random weights, whose free answers
never end by themselves. There is one process for each runtime and number of threads, all of them
alive at the same time. In each round, each process answers each prompt once; the table has the
medians over the rounds. Loading is measured in processes that are restarted in each round, without
the time that Python takes to import modules.

Free: the end token is forbidden, so that an answer has --tokens tokens. Prefill is the number of
prompt tokens over the time to the first token, decode the mean rate of the other tokens.
Constrained: the whole time of a call, which ends by itself, and its tokens. Memory is the peak of
the process; the row `python` is Python's own, to be subtracted. needle-rs has no free answers,
because its grammar is always on. onnxruntime-4 is onnxruntime with accuracy_level = 4 in every
MatMulNBits, which is also rten's setting.

Needs the packages of scripts/check_exports.sh (it uses their environment, and creates it if it is
missing). Builds the command, scripts/engine and scripts/bench/rten_worker.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
RUNTIMES = ["ours", "onnxruntime", "onnxruntime-4", "needle-rs", "python"]
# Only if --only names it: it has not been tried yet.
OTHERS = ["rten"]
EOS, TOOLS = 1, 5
# How many random models to try, and the fewest tokens of a constrained answer that is worth measuring.
SEEDS, LEAST_TOKENS = 40, 20


# ------------------------------------------------------------------------------------------ workers
# A worker reads questions, one JSON object per line, and answers each with a line.


def python_worker(runtime, model, threads):
    """A runtime with a Python module, or none ("python", to measure what a process costs)."""
    factory = {"python": idle, "needle-rs": needle_rs}.get(runtime, onnxruntime)
    start, answer = factory(model, threads)
    load = time.perf_counter() - start
    for line in sys.stdin:
        asked = json.loads(line)
        result = answer(asked)
        now = time.perf_counter()
        print(
            json.dumps({"load_s": load, "load_and_answer_s": now - start, "answer": result}),
            flush=True,
        )


def idle(_model, _threads):
    import numpy  # noqa: F401: the others need it, too

    return time.perf_counter(), lambda asked: None


def onnxruntime(model, threads):
    sys.path.insert(0, str(ROOT / "scripts"))
    from onnx_generate import Needle

    load_start = time.perf_counter()
    needle = Needle(model, threads=threads)

    def answer(asked):
        if asked["is_constrained"]:
            return None
        start, first = time.perf_counter(), []

        def on_logits(logits):
            first.append(time.perf_counter() - start)
            logits[EOS] = float("-inf")

        ids, _ = needle.generate(asked["ids"], asked["max_tokens"], on_logits)
        return {"seconds": time.perf_counter() - start, "first_s": first[0], "tokens": len(ids)}

    return load_start, answer


def needle_rs(model, _threads):
    from needle_rs import NeedleEngine

    load_start = time.perf_counter()
    engine = NeedleEngine.load(f"{model}/needle.safetensors", f"{model}/vocab.txt")

    def answer(asked):
        if not asked["is_constrained"]:
            return None
        start, tokens = time.perf_counter(), []
        engine.run_stream(
            asked["query"], asked["tools"], lambda *_: tokens.append(time.perf_counter() - start)
        )
        return {
            "seconds": time.perf_counter() - start,
            "first_s": tokens[0] if tokens else None,
            "tokens": len(tokens),
        }

    return load_start, answer


class Worker:
    """A process that answers questions."""

    def __init__(self, command, threads):
        environment = {
            **os.environ,
            "RAYON_NUM_THREADS": str(threads),
            "RTEN_NUM_THREADS": str(threads),
            "OMP_NUM_THREADS": str(threads),
        }
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, asked):
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"{' '.join(map(str, self.process.args))} ended with {self.process.wait()}"
            )
        return json.loads(line)

    def close(self):
        """Ends the process, and returns its peak memory in MB."""
        peak = Path(f"/proc/{self.process.pid}/status").read_text()
        self.process.stdin.close()
        self.process.wait()
        return int(re.search(r"VmHWM:\s+(\d+)", peak)[1]) / 1e3


# ------------------------------------------------------------------------------------------- models


def models_and_questions(args, work):
    """The model in each runtime's format, and a question for each prompt length."""

    def both(checkpoint):
        models = write_models(args, checkpoint, tempfile.mkdtemp(dir=work))
        questions = {n: question(models["onnxruntime"], n, args.tokens) for n in args.prompts}
        return models, questions

    if args.checkpoint:
        return both(args.checkpoint)
    # Take the first random weights that call a tool with answers of enough tokens.
    for seed in range(SEEDS):
        checkpoint = f"{work}/checkpoint"
        write_model = TARGET / built(args) / "write_model"
        sizes = ["--preset", args.preset, "--format", "checkpoint", "--seed", seed]
        run(write_model, checkpoint, *sizes)
        models, questions = both(checkpoint)
        worker = Worker(command(args, "ours", models["ours"], 1), 1)
        answers = [worker.ask({**asked, "is_constrained": True}) for asked in questions.values()]
        worker.close()
        if min(asked["answer"]["tokens"] for asked in answers) >= LEAST_TOKENS:
            return models, questions
    raise SystemExit(f"none of {SEEDS} random models writes answers of {LEAST_TOKENS} tokens")


def write_models(args, checkpoint, work):
    """The model in each runtime's format: a directory for each."""
    for format in ("needle-rs", "onnx"):
        run(
            args.needle,
            "export",
            checkpoint,
            "--format",
            format,
            "--out",
            f"{work}/{format}",
            "--no-verify",
        )
    import onnx

    for name in ("onnx-4", "rten"):
        os.makedirs(f"{work}/{name}")
        os.symlink(f"{work}/onnx/tokenizer.model", f"{work}/{name}/tokenizer.model")
    for name in ("encoder", "decoder"):
        graph = onnx.load(f"{work}/onnx/{name}.onnx")
        onnx.save(without_half(graph), f"{work}/rten/{name}.onnx")
        graph = onnx.load(f"{work}/onnx/{name}.onnx")
        for node in graph.graph.node:
            if node.op_type == "MatMulNBits":
                node.attribute.append(onnx.helper.make_attribute("accuracy_level", 4))
        onnx.save(
            graph,
            f"{work}/onnx-4/{name}.onnx",
            save_as_external_data=True,
            location=f"{name}.bin",
            size_threshold=1024,
        )
    return {
        "ours": f"{work}/needle-rs",
        "needle-rs": f"{work}/needle-rs",
        "onnxruntime": f"{work}/onnx",
        "onnxruntime-4": f"{work}/onnx-4",
        "rten": f"{work}/rten",
        "python": work,
    }


def without_half(model):
    """The graph without the operators that rten lacks: scales and the embedding are in f32."""
    import numpy as np
    from onnx import helper, numpy_helper

    graph = model.graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    replaced = {}
    nodes = []
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in values:
            # Scales are stored in f16 and cast to f32.
            values[node.output[0]] = values[node.input[0]].astype(np.float32)
            continue
        if node.op_type == "GatherBlockQuantized":
            codes, scales = values[node.input[0]], values[node.input[2]].astype(np.float32)
            # Two codes per byte, low nibble first, stored as code + 8.
            codes = codes.reshape(codes.shape[0], -1)
            codes = (
                np.stack([codes & 15, codes >> 4], -1)
                .reshape(codes.shape[0], -1)
                .astype(np.float32)
                - 8
            )
            block = codes.shape[1] // (scales.size // codes.shape[0])
            name = f"{node.input[0]}.f32"
            replaced[name] = (codes * scales.reshape(codes.shape[0], -1).repeat(block, 1)).astype(
                np.float32
            )
            node = helper.make_node("Gather", [name, node.input[1]], node.output, axis=0)
        elif node.op_type == "MatMulNBits":
            # rten needs two-dimensional scales, and uses INT8 activations only at accuracy_level 4.
            outputs = next(attribute.i for attribute in node.attribute if attribute.name == "N")
            values[node.input[2]] = values[node.input[2]].reshape(outputs, -1)
            node.attribute.append(helper.make_attribute("accuracy_level", 4))
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    values = {**values, **replaced}
    halves = {
        name: value.astype(np.float32) if value.dtype == np.float16 else value
        for name, value in values.items()
        if name in used
    }
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in halves.items()
    )
    return model


def question(model, prompt_tokens, max_tokens):
    """A query and tools of exactly this many tokens, or a few fewer if no word fits."""
    import sentencepiece as spm

    encode = spm.SentencePieceProcessor(model_file=f"{model}/tokenizer.model").encode
    kinds = [
        "timer",
        "lamp",
        "message",
        "reminder",
        "song",
        "route",
        "list",
        "heating",
        "camera",
        "alarm",
    ]
    tools, query = [], "please set a timer for ten minutes"
    ids = (
        lambda query, tools: encode(query)
        + [TOOLS]
        + encode(json.dumps(tools, separators=(",", ":")))
    )
    for index in range(1000):
        kind = kinds[index % len(kinds)]
        parameters = {
            "text": {"type": "string", "description": f"what the {kind} says", "required": True},
            "count": {"type": "integer", "required": True},
        }
        more = [
            *tools,
            {
                "name": f"set_{kind}_{index}",
                "description": f"Set a {kind}",
                "parameters": parameters,
            },
        ]
        if tools and len(ids(query, more)) > prompt_tokens:
            break
        tools = more
    while len(ids(f"{query} minutes", tools)) <= prompt_tokens:
        query += " minutes"
    return {
        "query": query,
        "tools": json.dumps(tools, separators=(",", ":")),
        "ids": ids(query, tools)[:prompt_tokens],
        "max_tokens": max_tokens,
    }


# ---------------------------------------------------------------------------------------- measuring


def run(*command):
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def build(args):
    def cargo(manifest, *more):
        manifest = ROOT / manifest / "Cargo.toml"
        run("cargo", "build", "--profile", args.profile, "--manifest-path", manifest, *more)

    if not Path(args.needle).exists():
        cargo(".", "-p", "needle-cli")
    cargo(".", "-p", "engine-scripts")
    if "rten" in args.only:
        cargo("scripts/bench/rten_worker", "--target-dir", TARGET / "rten")


def built(args):
    """The folder of the target directory that programs are built in."""
    return {"dev": "debug"}.get(args.profile, args.profile)


def command(args, runtime, model, threads):
    folder = built(args)
    native = {"ours": TARGET / folder / "worker", "rten": TARGET / "rten" / folder / "rten_worker"}
    if runtime in native:
        return [str(native[runtime]), model, str(threads)]
    return [sys.executable, __file__, "--worker", runtime, model, str(threads)]


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def measure(args, models, questions):
    prompts = args.prompts
    rows = []
    for threads in args.threads:
        times = {}
        workers = {
            runtime: Worker(command(args, runtime, models[runtime], threads), threads)
            for runtime in args.only
        }
        # The first round warms up.
        for round in range(args.rounds + 1):
            for n in prompts:
                for is_constrained in (False, True):
                    for runtime, worker in workers.items():
                        if runtime == "python":
                            continue
                        answer = worker.ask({**questions[n], "is_constrained": is_constrained})[
                            "answer"
                        ]
                        if round and answer:
                            times.setdefault((runtime, n, is_constrained), []).append(answer)
        for worker in workers.values():
            worker.close()
        # Load in a new process each time, with the shortest prompt.
        loads = {}
        for _ in range(args.rounds):
            for runtime in args.only:
                worker = Worker(command(args, runtime, models[runtime], threads), threads)
                # needle-rs is always constrained; ours is measured free, like the others.
                asked = worker.ask(
                    {**questions[min(prompts)], "is_constrained": runtime == "needle-rs"}
                )
                loads.setdefault(runtime, []).append(
                    (asked["load_s"], asked["load_and_answer_s"], worker.close())
                )
        for runtime in args.only:
            load, first, peak = (median(column) for column in zip(*loads[runtime]))
            row = {
                "runtime": runtime,
                "threads": threads,
                "load_s": load,
                "load_and_answer_s": first,
                "peak_mb": peak,
            }
            for n in prompts:
                tokens = len(questions[n]["ids"])
                free = times.get((runtime, n, False), [])
                row[f"prefill_{n}"] = median([tokens / a["first_s"] for a in free])
                row[f"decode_{n}"] = median(
                    [(a["tokens"] - 1) / (a["seconds"] - a["first_s"]) for a in free]
                )
                held = times.get((runtime, n, True), [])
                row[f"constrained_ms_{n}"] = median([1e3 * a["seconds"] for a in held])
                row[f"constrained_tokens_{n}"] = median([a["tokens"] for a in held])
            rows.append(row)
    return rows


def cpu():
    return re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]


def table(rows, prompts):
    columns = ["runtime", "threads", "load ms", "load and answer ms", "peak MB"]
    for n in prompts:
        columns += [
            f"prefill/s ({n})",
            f"decode/s ({n})",
            f"constrained ms ({n})",
            f"its tokens ({n})",
        ]
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    shown = lambda value, digits=0: "-" if value is None else f"{value:.{digits}f}"
    for row in rows:
        load = (
            [1e3 * row["load_s"], 1e3 * row["load_and_answer_s"]]
            if row["runtime"] != "python"
            else [None, None]
        )
        cells = [row["runtime"], str(row["threads"]), *map(shown, load), shown(row["peak_mb"], 1)]
        for n in prompts:
            cells += [
                shown(row[f"{key}_{n}"], digits)
                for key, digits in (
                    ("prefill", 0),
                    ("decode", 0),
                    ("constrained_ms", 1),
                    ("constrained_tokens", 0),
                )
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    if sys.argv[1:2] == ["--worker"]:
        runtime, model, threads = sys.argv[2:]
        return python_worker(runtime, model, int(threads))
    numbers = lambda text: [int(part) for part in text.split(",")]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("--needle", default=str(TARGET / "release/needle"))
    parser.add_argument("--preset", default="needle-26m", help="sizes of the random model")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--prompts", type=numbers, default=[200, 800])
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--tokens", type=int, default=64, help="most tokens of an answer")
    parser.add_argument("--only", type=lambda text: text.split(","), default=RUNTIMES)
    parser.add_argument("--profile", default="release", help="cargo's profile; dev is only for tests of this script")
    parser.add_argument("--json", help="also write all medians to this file")
    parser.add_argument("--no-build", action="store_true", help="everything is built already")
    args = parser.parse_args()
    unknown = set(args.only) - set(RUNTIMES + OTHERS)
    if unknown:
        parser.error(
            f"--only {','.join(sorted(unknown))}: expected some of {', '.join(RUNTIMES + OTHERS)}"
        )
    environment = Path(os.environ.get("NEEDLE_CHECK_ENV", TARGET / "check-exports"))
    if Path(sys.prefix).resolve() != environment.resolve():
        if not (environment / "bin/python").exists():
            run(sys.executable, "-m", "venv", environment)
            run(
                environment / "bin/pip",
                "install",
                "--quiet",
                "needle-rs==0.3.1",
                "onnxruntime",
                "onnx",
                "sentencepiece",
                "safetensors",
                "numpy",
            )
        os.execv(environment / "bin/python", [str(environment / "bin/python"), *sys.argv])
    if not args.no_build:
        build(args)
    with tempfile.TemporaryDirectory() as work:
        rows = measure(args, *models_and_questions(args, work))
    print(
        f"{cpu()}; {args.rounds} rounds, medians; free answers of {args.tokens} tokens\n\n"
        f"{table(rows, args.prompts)}"
    )
    if args.json:
        Path(args.json).write_text(
            json.dumps({"cpu": cpu(), "rounds": args.rounds, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
