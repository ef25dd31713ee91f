#!/usr/bin/env python3
"""Predicts how training scales with the number of GPUs, and checks the prediction on this machine's cores.

    scripts/bench/scaling.py predict --forward-backward-ms 150 --muon-ms 20 --adamw-ms 1 --tokens 393216
    scripts/bench/scaling.py check --needle target/release/needle --tokenizer tokenizer.json --data data.jsonl

A step of N ranks, each with its own device and the same rows, takes

    forward_backward + muon(N) + adamw / N + exchange(N) + messages(N)

    muon(N)      each matrix is whole on one rank: the largest shard has ceil(112 / N) of the 112 (56 large, 56 small) matrices
    exchange(N)  a rank sends (N - 1) / N of the gradient and of the weights, and the rank with the largest shard receives its
                 gradient N - 1 times; over the slowest link on the way; twice over PCIe, and once through the host's memory
    messages(N)  three short all-gathers: latency * ceil(log2 N) each

as in needle-train/src/distributed/exchange.rs. Efficiency is tokens/s divided by N times the tokens/s of one GPU.
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

NUM_PARAMS = 26_315_421
LARGE, SMALL = 512 * 512, 512 * 256  # Q and O; K and V
LARGE_FLOP, SMALL_FLOP = 5 * (4 * 512**3 + 2 * 512**3), 5 * (4 * 256**2 * 512 + 2 * 256**3)
MATRICES = [(LARGE_FLOP, LARGE)] * 56 + [(SMALL_FLOP, SMALL)] * 56
WHOLE_FLOP = sum(flop for flop, _ in MATRICES)
GIGA = 1e9


def shares(ranks):
    """The largest share of Muon's operations, and the largest number of parameters, as optim/shards.rs divides them."""
    load, values = [0.0] * ranks, [(NUM_PARAMS - 56 * (LARGE + SMALL)) / ranks] * ranks
    for flop, size in sorted(MATRICES, reverse=True):
        least = min(range(ranks), key=load.__getitem__)
        load[least] += flop
        values[least] += size
    return max(load) / WHOLE_FLOP, max(values)


def step_seconds(ranks, a):
    """Seconds of each part of a step."""
    if ranks == 1:
        return {"compute": a.forward_backward_ms / 1e3, "optimizer": (a.muon_ms + a.adamw_ms) / 1e3, "exchange": 0.0, "messages": 0.0}
    muon, most_values = shares(ranks)
    gradient_bytes = 2 if a.gradient_dtype == "bf16" else 4
    sent = (ranks - 1) / ranks * NUM_PARAMS * (gradient_bytes + 4)
    received = (ranks - 1) * most_values * gradient_bytes + (ranks - 1) / ranks * NUM_PARAMS * 4
    link = a.intra_gb_per_s if ranks <= a.gpus_per_node else a.inter_gb_per_s / a.gpus_per_node
    host = NUM_PARAMS * 4 * 2 / (a.pcie_gb_per_s * GIGA) + NUM_PARAMS * 4 * 6 / (a.memory_gb_per_s * GIGA)
    return {
        "compute": a.forward_backward_ms / 1e3,
        "optimizer": (a.muon_ms * muon + a.adamw_ms / ranks) / 1e3,
        "exchange": max(sent, received) / (link * GIGA) + host,
        "messages": 3 * a.latency_us * 1e-6 * math.ceil(math.log2(ranks)),
    }


def predict(a):
    print(f"{'GPUs':>5} {'tokens/s':>12} {'efficiency':>10} {'step ms':>8} {'compute':>8} {'optimizer':>9} {'exchange':>8} {'messages':>8}")
    alone = a.tokens / sum(step_seconds(1, a).values())
    for power in range(10):
        ranks = 2**power
        parts = step_seconds(ranks, a)
        seconds = sum(parts.values())
        rate = ranks * a.tokens / seconds
        columns = " ".join(f"{1e3 * parts[name]:>{width}.1f}" for name, width in [("compute", 8), ("optimizer", 9), ("exchange", 8), ("messages", 8)])
        print(f"{ranks:>5} {rate:>12,.0f} {rate / ranks / alone:>10.3f} {1e3 * seconds:>8.1f} {columns}")


RECIPE = """
model = "needle-26m"
steps = 8
dropout = 0.0
data = { rows = 8, lanes = 4, row_enc_tokens = 256, row_dec_tokens = 64, pack_window = 256, shuffle_buffer_mb = 1, threads = 1 }
schedule = { warmup_steps = 2 }
loss = { contrastive_weight = 0.0 }
qat = { final_fraction = 0 }
eval = { every_steps = 1000, max_examples = 1 }
checkpoint = { every_steps = 1000 }
"""


def measure(a, place, ranks, cores):
    """Median seconds of a step, its seconds in communication, and the megabytes that rank 0 sends."""
    recipe, out = place / "recipe.toml", place / f"{ranks}on{cores}"
    recipe.write_text(RECIPE)
    held_out = place / "val.jsonl"
    held_out.write_text(pathlib.Path(a.data).read_text().splitlines()[0] + "\n")
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    launcher = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] if ranks > 1 else []
    command = ["taskset", "-c", f"0-{cores - 1}", *launcher, a.needle, "train", "-q", "--config", str(recipe), "--data", a.data]
    command += ["--val", str(held_out), "--tokenizer", a.tokenizer, "--out", str(out)]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    events = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    seconds = statistics.median(b["seconds"] - a["seconds"] for a, b in zip(steps[1:], steps[2:]))
    traffic = [step.get("traffic") or {"seconds": 0.0, "bytes_sent": 0} for step in steps[2:]]
    return seconds, statistics.median(t["seconds"] for t in traffic), traffic[0]["bytes_sent"] / 1e6


def check(a):
    """With one core per rank and the same batch, N ranks need 1/N of the time of one core for each part, plus the exchange."""
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        alone, _, _ = measure(a, place, 1, 1)
        print(f"{'ranks':>5} {'cores':>5} {'measured s':>10} {'predicted s':>11} {'error':>6} {'in communication':>16} {'MB sent':>8}")
        print(f"{1:>5} {1:>5} {alone:>10.3f}")
        bandwidth = None
        for ranks in (2, 4):
            run = subprocess.run(
                ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks), a.needle, "bench", "allreduce", "--json"],
                env={**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"},
                check=True, capture_output=True, text=True,
            )
            bench = json.loads(run.stdout)
            # The bandwidth of two ranks predicts that of four, which share the cores.
            slower = max(1.0, ranks / cores)
            bandwidth = bandwidth or bench["megabytes_per_second"]
            used = min(ranks, cores)
            predicted = alone / used + bench["bytes_per_step"] / 1e6 / bandwidth * slower
            measured, communication, megabytes = measure(a, place, ranks, used)
            print(f"{ranks:>5} {used:>5} {measured:>10.3f} {predicted:>11.3f} {measured / predicted - 1:>+6.1%} {communication / measured:>16.1%} {megabytes:>8.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("predict", help="tokens/s and efficiency for 1 to 512 GPUs")
    p.add_argument("--forward-backward-ms", type=float, required=True, help="time of one GPU for its rows (needle bench train)")
    p.add_argument("--muon-ms", type=float, required=True, help="time of all matrices on one GPU")
    p.add_argument("--adamw-ms", type=float, required=True, help="time of all other parameters on one GPU")
    p.add_argument("--tokens", type=float, required=True, help="tokens of one GPU in a step")
    p.add_argument("--gradient-dtype", choices=["f32", "bf16"], default="f32")
    p.add_argument("--gpus-per-node", type=int, default=8)
    p.add_argument("--intra-gb-per-s", type=float, default=5.0, help="bandwidth between two processes of a machine, GB/s (needle bench allreduce)")
    p.add_argument("--inter-gb-per-s", type=float, default=50.0, help="bandwidth of a machine's network, GB/s (400 Gbit/s: 50)")
    p.add_argument("--pcie-gb-per-s", type=float, default=25.0, help="bandwidth between GPU and host, GB/s")
    p.add_argument("--memory-gb-per-s", type=float, default=10.0, help="memory bandwidth of one core of the host, GB/s")
    p.add_argument("--latency-us", type=float, default=5.0, help="latency of a short message")
    p = commands.add_parser("check", help="compare the prediction with ranks on this machine's cores")
    p.add_argument("--needle", required=True, help="built with --features mpi")
    p.add_argument("--tokenizer", required=True)
    p.add_argument("--data", required=True)
    a = parser.parse_args()
    predict(a) if a.command == "predict" else check(a)


if __name__ == "__main__":
    sys.exit(main())
