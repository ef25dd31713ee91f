#!/usr/bin/env python3
"""Loads `needle serve` with many clients at once, and compares it with the same questions answered in one batch.

    scripts/bench/serve_load.py --needle target/release/needle --checkpoint quickstart --data held_out.jsonl

Each client keeps one connection and asks one question after the other, of the examples in --data. Prints one JSON object:
requests a second, the times of a request (p50, p99, largest), errors, the server's memory after a tenth of the time and at the end,
and the answers a second that `needle run --input` gives to as many of the same questions, its start not counted.
"""

import argparse
import collections
import http.client
import itertools
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time


def requests_of(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        tools = row["tools"] if isinstance(row["tools"], list) else json.loads(row["tools"])
        yield row["query"], tools


def as_openai(tool):
    if "function" in tool:
        return tool
    parameters = dict(tool.get("parameters") or {})
    if "properties" not in parameters:
        required = [name for name, schema in parameters.items() if schema.get("required")]
        properties = {name: {k: v for k, v in schema.items() if k != "required"} for name, schema in parameters.items()}
        parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": tool["name"], "description": tool.get("description", ""), "parameters": parameters}}


def resident_mb(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


def start(arguments):
    command = [arguments.needle, "serve", f"model={arguments.checkpoint}", "--port", "0", "--max-waiting", str(2 * arguments.clients)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
            threading.Thread(target=process.stdout.read, daemon=True).start()
            wait_until_loaded(int(found.group(1)))
            return process, int(found.group(1))
    sys.exit("the server did not start")


def wait_until_loaded(port):
    for _ in range(600):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/health")
        if connection.getresponse().status == 200:
            return
        time.sleep(0.1)
    sys.exit("the model was not loaded within a minute")


def load(port, bodies, clients, seconds):
    times, errors, lock = [], collections.Counter(), threading.Lock()
    turn, until = itertools.count(), time.monotonic() + seconds

    def client():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while (began := time.monotonic()) < until:
            body = bodies[next(turn) % len(bodies)]
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            with lock:
                times.append(time.monotonic() - began)
                if answer.status != 200:
                    errors[answer.status] += 1

    threads = [threading.Thread(target=client) for _ in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(times), errors, time.monotonic() - began


def batch_rate(arguments, questions):
    def run(rows):
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            file.writelines(json.dumps({"query": query, "tools": tools}) + "\n" for query, tools in rows)
            file.flush()
            began = time.monotonic()
            subprocess.run([arguments.needle, "run", arguments.checkpoint, "--input", file.name, "-q"], check=True, stdout=subprocess.DEVNULL)
            return time.monotonic() - began

    start_up = min(run(questions[:1]) for _ in range(3))
    return (len(questions) - 1) / (run(questions) - start_up)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--needle", default="target/release/needle")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    asked = list(requests_of(arguments.data))
    bodies = [
        json.dumps({"model": "model", "messages": [{"role": "user", "content": query}], "tools": [as_openai(tool) for tool in tools]})
        for query, tools in asked
    ]
    before = batch_rate(arguments, (asked * (1 + 2000 // len(asked)))[:2000])
    process, port = start(arguments)
    try:
        warm = load(port, bodies, arguments.clients, arguments.seconds / 10)
        memory = [resident_mb(process)]
        times, errors, seconds = load(port, bodies, arguments.clients, arguments.seconds)
        memory.append(resident_mb(process))
    finally:
        process.terminate()
    after = batch_rate(arguments, (asked * (1 + 2000 // len(asked)))[:2000])
    rate, batch = len(times) / seconds, (before + after) / 2
    result = {
        "clients": arguments.clients,
        "requests": len(times),
        "errors": dict(errors + warm[1]),
        "requests_per_second": round(rate, 1),
        "p50_ms": round(1000 * times[len(times) // 2], 1),
        "p99_ms": round(1000 * times[len(times) * 99 // 100], 1),
        "largest_ms": round(1000 * times[-1], 1),
        "memory_mb": [round(m, 1) for m in memory],
        "batch_answers_per_second": round(batch, 1),
        "of_the_batch": round(rate / batch, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
