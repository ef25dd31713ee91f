#!/usr/bin/env python3
"""Acts as an agent of the official Python SDK in front of `needle mcp serve`, which stands in front of two real servers: over stdio, then
over HTTP. Then reads the tools of a server behind TLS.

    python3 -m venv env && env/bin/pip install mcp mcp-server-time trustme
    npm install @modelcontextprotocol/server-filesystem
    env/bin/python scripts/check_mcp.py --needle target/release/needle --checkpoint quickstart

Prints a line for each check and fails at the first that is not as the client expects.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

import mcp
import trustme
import uvicorn
from mcp.server import MCPServer
from mcp.client.streamable_http import streamable_http_client


def said(what):
    print(f"ok  {what}", flush=True)


def content(result):
    """What a tool answered: JSON, or text."""
    text = "".join(block.text for block in result.content)
    with contextlib.suppress(json.JSONDecodeError):
        return json.loads(text)
    return text


async def check(session, folder):
    await session.initialize()
    names = sorted(tool.name for tool in (await session.list_tools()).tools)
    assert names == ["call_tool", "find_tools", "route"], names
    said(f"three tools: {', '.join(names)}")

    found = content(await session.call_tool("find_tools", {"query": "what time is it in Lisbon?", "k": 3}))
    names = [tool["name"] for tool in found["tools"]]
    assert "get_current_time" in names, found
    said(f"find_tools ranks all servers' tools: {', '.join(names)}")

    routed = content(await session.call_tool("route", {"query": "what time is it in Lisbon?"}))
    assert routed["verdict"] in ("act", "confirm", "refuse"), routed
    said(f"route calls nothing and says {routed['verdict']}")

    arguments = {"name": "get_current_time", "arguments": {"timezone": "Europe/Lisbon"}}
    result = await session.call_tool("call_tool", arguments)
    assert "Europe/Lisbon" in str(content(result)), result
    said("call_tool reaches the server from PyPI")

    wrong = {"name": "get_current_time", "arguments": {"zone": "Europe/Lisbon"}}
    result = await session.call_tool("call_tool", wrong)
    assert result.is_error and "zone" in str(content(result)), result
    said("arguments that do not fit the schema are named")

    note = folder / "note.txt"
    write = {"name": "write_file", "arguments": {"path": str(note), "content": "by MCP"}}
    result = await session.call_tool("call_tool", write)
    assert result.is_error and not note.exists(), "a destructive tool ran unconfirmed"
    said("a destructive tool wants to be confirmed")
    result = await session.call_tool("call_tool", write | {"confirmed": True})
    assert not result.is_error and note.read_text() == "by MCP", result
    note.unlink()
    said("once confirmed, the server from npm writes the file")


async def over_stdio(command, folder):
    server = mcp.StdioServerParameters(command=command[0], args=command[1:])
    async with mcp.stdio_client(server) as (read, write), mcp.ClientSession(read, write) as session:
        await check(session, folder)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


async def over_http(command, folder):
    port = free_port()
    process = subprocess.Popen([*command, "--http", "--port", str(port)])
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.2):
                break
            await asyncio.sleep(0.2)
        url = f"http://127.0.0.1:{port}/mcp"
        async with streamable_http_client(url) as streams, mcp.ClientSession(streams[0], streams[1]) as session:
            await check(session, folder)
    finally:
        process.terminate()
        process.wait(timeout=20)


def behind_tls(needle, folder):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    server = MCPServer("greeter")

    @server.tool()
    def greet(name: str) -> str:
        """Says hello"""
        return f"hello {name}"

    port = free_port()
    app = server.streamable_http_app()
    running = uvicorn.Server(uvicorn.Config(app, port=port, ssl_certfile=folder / "server.pem", log_level="warning"))
    threading.Thread(target=running.run, daemon=True).start()
    while not running.started:
        time.sleep(0.05)
    command = [needle, "mcp", "import", f"https://localhost:{port}/mcp"]
    trusted = os.environ | {"SSL_CERT_FILE": str(folder / "authority.pem")}
    tools = json.loads(subprocess.run(command, env=trusted, check=True, stdout=subprocess.PIPE).stdout)
    assert [tool["name"] for tool in tools] == ["greet"], tools
    said("tools of a server behind TLS")
    refused = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert refused.returncode == 1 and "ertificate" in refused.stderr, refused
    said(f"a certificate that nobody vouches for is refused: {refused.stderr.strip()}")
    running.should_exit = True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--needle", default="target/release/needle")
    parser.add_argument("--checkpoint", required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary).resolve()
        time_server = pathlib.Path(sys.executable).with_name("mcp-server-time")
        servers = {
            "time": {"command": str(time_server)},
            "files": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", str(folder)]},
        }
        config = folder / "mcp.json"
        config.write_text(json.dumps({"mcpServers": servers}))
        command = [arguments.needle, "mcp", "serve", arguments.checkpoint, "--config", str(config)]
        print("over stdio")
        asyncio.run(over_stdio(command, folder))
        print("over HTTP")
        asyncio.run(over_http(command, folder))
        behind_tls(arguments.needle, folder)


if __name__ == "__main__":
    main()
