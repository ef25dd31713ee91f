#!/usr/bin/env python3
"""Measures how well `needle mcp serve` finds tools among those of fourteen real MCP servers.

    scripts/bench/catalogue.py CHECKPOINT.. [--needle target/release/needle]

Installs the servers below into --environment, from PyPI and npm, and writes mcp.json there. None
of them needs an account, a key or a network connection to list its tools. Prints a table of the
servers, and a table of recall on --queries for each checkpoint.
Needs Python 3.10 or later with venv, and Node 20 or later with npm.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

# FOLDER stands for an empty folder. Other versions can have other tools, and then other figures.
Server = collections.namedtuple("Server", "name registry package version licence command")
SERVERS = [
    Server("anki", "PyPI", "anki-mcp-server", "0.2.0", "MIT", ["anki-mcp-server"]),
    Server("browser", "npm", "@playwright/mcp", "0.0.83", "Apache-2.0", ["playwright-mcp"]),
    Server("calculator", "npm", "@coo-quack/calc-mcp", "2.1.1", "MIT", ["calc-mcp"]),
    Server("charts", "npm", "@antv/mcp-server-chart", "0.9.10", "MIT", ["mcp-server-chart"]),
    Server("database", "PyPI", "mcp-server-sqlite", "2025.4.25", "MIT", ["mcp-server-sqlite", "--db-path", "FOLDER/tools.db"]),
    Server("excel", "PyPI", "excel-mcp-server", "2.2.2", "MIT", ["excel-mcp-server", "stdio", "--allow-dir", "FOLDER"]),
    Server("fetch", "PyPI", "mcp-server-fetch", "2026.10.24", "MIT", ["mcp-server-fetch"]),
    Server("files", "npm", "@modelcontextprotocol/server-filesystem", "2025.11.25", "MIT", ["mcp-server-filesystem", "FOLDER"]),
    Server("git", "PyPI", "mcp-server-git", "2026.10.19", "MIT", ["mcp-server-git"]),
    Server("kubernetes", "npm", "mcp-server-kubernetes", "4.1.7", "MIT", ["mcp-server-kubernetes"]),
    Server("mail", "PyPI", "mcp-email-server", "1.13.3", "BSD-3-Clause", ["mcp-email-server", "stdio"]),
    Server("memory", "npm", "@modelcontextprotocol/server-memory", "2025.11.25", "MIT", ["mcp-server-memory"]),
    Server("recipes", "npm", "recipe-mcp", "1.1.2", "MIT", ["recipe-mcp-server"]),
    Server("weather", "npm", "@dangahagan/weather-mcp", "1.23.0", "MIT", ["weather-mcp"]),
]
# mcp-server-sqlite accepts every version of the SDK, but does not start with 2.0 and later.
ALSO = {"mcp-server-sqlite": ["mcp==1.30.0"]}


def run(*command, **variables):
    """What the command printed. What it and its servers complain of is shown only if it fails."""
    words = [str(word) for word in command]
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            words, env=os.environ | variables, stdout=subprocess.PIPE, stderr=complaints, text=True, start_new_session=True
        )
        printed = process.communicate()[0]
        # weather-mcp does not stop when its client closes its stdin.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        if process.returncode != 0:
            complaints.seek(0)
            sys.exit(f"{' '.join(words)}\n{complaints.read()}")
    return printed


def install(environment):
    """Each Python server gets an environment of its own: they need different versions of the SDK."""
    node = [f"{server.package}@{server.version}" for server in SERVERS if server.registry == "npm"]
    run("npm", "install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", environment / "node", *node)
    for server in SERVERS:
        place = environment / f"{server.package}-{server.version}"
        if server.registry == "PyPI" and not (place / "bin" / server.command[0]).exists():
            run(sys.executable, "-m", "venv", place)
            pinned = [f"{server.package}=={server.version}", *ALSO.get(server.package, [])]
            run(place / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *pinned)


def started_by(server, environment, folder):
    """The command that starts the server, with absolute paths."""
    programs = environment / ("node/node_modules/.bin" if server.registry == "npm" else f"{server.package}-{server.version}/bin")
    program, *arguments = server.command
    return [str(programs / program), *(word.replace("FOLDER", str(folder)) for word in arguments)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT")
    parser.add_argument("--needle", default=ROOT / "target/release/needle")
    parser.add_argument("--queries", type=pathlib.Path, default=ROOT / "configs/examples/mcp_queries.jsonl")
    parser.add_argument("--environment", type=pathlib.Path, default=ROOT / "target/catalogue")
    arguments = parser.parse_args()

    environment = arguments.environment.resolve()
    folder = environment / "folder"
    folder.mkdir(parents=True, exist_ok=True)
    install(environment)
    commands = {server.name: started_by(server, environment, folder) for server in SERVERS}
    # Some servers write settings and logs into the home directory.
    home = {"HOME": str(folder)}
    servers = {name: {"command": command[0], "args": command[1:], "env": home} for name, command in commands.items()}
    config = environment / "mcp.json"
    config.write_text(json.dumps({"mcpServers": servers}, indent=2))

    names = []
    print("| server | package | version | licence | tools |\n| --- | --- | --- | --- | --- |")
    for server in SERVERS:
        importing = [arguments.needle, "mcp", "import", "--", *commands[server.name]]
        tools = json.loads(run(*importing, **home))
        names += [tool["name"] for tool in tools]
        print(f"| {server.name} | {server.package} ({server.registry}) | {server.version} | {server.licence} | {len(tools)} |")
    if len(set(names)) < len(names):
        sys.exit("two servers have a tool of the same name, which needle then prefixes with its server's")
    called = {call["name"] for line in arguments.queries.open(encoding="utf-8") for call in json.loads(line)["answers"]}
    if unknown := called - set(names):
        sys.exit(f"no server has these tools of {arguments.queries}: {', '.join(sorted(unknown))}")

    print("\n| checkpoint | queries | tools called, of all | recall@1 | @3 | @5 | @10 | MRR |\n" + "| --- " * 8 + "|")
    for checkpoint in arguments.checkpoints:
        measuring = [arguments.needle, "mcp", "serve", checkpoint, "--config", config, "--measure", arguments.queries]
        result = json.loads(run(*measuring))
        recall = " | ".join(f"{result['recall_at'][k]:.3f}" for k in ("1", "3", "5", "10"))
        print(f"| {checkpoint} | {result['queries']} | {len(called)} of {result['tools']} | {recall} | {result['mrr']:.3f} |")


if __name__ == "__main__":
    main()
