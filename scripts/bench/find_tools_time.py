#!/usr/bin/env python3
"""Measures how long find_tools of `needle mcp serve` takes with a large catalogue.

    scripts/bench/find_tools_time.py CHECKPOINT [--needle target/release/needle] [--tools 500]

The script is the client, and also the MCP server that has the tools. The tools are those of
`needle data synth --invented`, each name once, and the queries are those of its examples. The first
call embeds the tools; the others find the vectors in the cache.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time


def invented(needle, count):
    """Queries, and `count` tools of different names."""
    command = [needle, "data", "synth", "--invented", "--count", str(2 * count), "--seed", "5"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    examples = [json.loads(line) for line in lines]
    tools = {tool["name"]: tool for example in examples for tool in example["tools"]}
    if len(tools) < count:
        sys.exit(f"only {len(tools)} different names in {len(lines)} examples")
    return [example["query"] for example in examples], list(tools.values())[:count]


def of_mcp(tool):
    properties = {name: {k: v for k, v in schema.items() if k != "required"} for name, schema in tool["parameters"].items()}
    required = [name for name, schema in tool["parameters"].items() if schema.get("required")]
    schema = {"type": "object", "properties": properties, "required": required}
    return {"name": tool["name"], "description": tool.get("description", ""), "inputSchema": schema}


def serve(tools):
    """An MCP server on stdin and stdout that has nothing but these tools."""
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("method") == "initialize":
            version = request["params"]["protocolVersion"]
            information = {"name": "invented", "version": "1"}
            result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": information}
        elif request.get("method") == "tools/list":
            result = {"tools": tools}
        else:
            continue
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}), flush=True)


def cpu_seconds(process):
    """What the process has computed so far. Other programs on the machine hardly change it."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(arguments, folder):
    queries, tools = invented(arguments.needle, arguments.tools)
    catalogue, config = folder / "tools.json", folder / "mcp.json"
    catalogue.write_text(json.dumps([of_mcp(tool) for tool in tools]))
    server = {"command": sys.executable, "args": [os.path.abspath(__file__), "--serve", str(catalogue)]}
    config.write_text(json.dumps({"mcpServers": {"invented": server}}))
    command = [arguments.needle, "mcp", "serve", arguments.checkpoint, "--config", str(config)]
    needle = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def send(**message):
        print(json.dumps({"jsonrpc": "2.0", **message}), file=needle.stdin, flush=True)

    def answer(number, method, **parameters):
        send(id=number, method=method, params=parameters)
        while (message := json.loads(needle.stdout.readline())).get("id") != number:
            pass
        if "error" in message or message["result"].get("isError"):
            sys.exit(f"{method}: {message}")
        return message["result"]

    information = {"name": "find_tools_time", "version": "1"}
    answer(0, "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=information)
    send(method="notifications/initialized")
    milliseconds = []
    for number, query in enumerate(queries[: arguments.calls + 1], start=1):
        if number == 2:
            cpu_before = cpu_seconds(needle)
        start = time.perf_counter()
        answer(number, "tools/call", name="find_tools", arguments={"query": query, "k": 5})
        milliseconds.append(1000 * (time.perf_counter() - start))
    first, *later = milliseconds
    cpu = 1000 * (cpu_seconds(needle) - cpu_before) / len(later)
    needle.stdin.close()
    needle.wait()
    print(f"{len(tools)} tools: first call {first:.0f} ms, median of {len(later)} more {statistics.median(later):.1f} ms,", end=" ")
    print(f"fastest {min(later):.1f} ms, CPU time of a call {cpu:.1f} ms")


def main():
    if sys.argv[1:2] == ["--serve"]:
        return serve(json.loads(pathlib.Path(sys.argv[2]).read_text()))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--needle", default="target/release/needle")
    parser.add_argument("--tools", type=int, default=500)
    parser.add_argument("--calls", type=int, default=50)
    with tempfile.TemporaryDirectory() as folder:
        measure(parser.parse_args(), pathlib.Path(folder))


if __name__ == "__main__":
    main()
