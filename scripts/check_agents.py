#!/usr/bin/env python3
"""Runs a tool loop of LangChain against a running `needle serve`: the model calls a tool, the tool runs, the loop ends.

    python3 -m venv env && env/bin/pip install langchain langchain-openai
    needle serve quickstart --port 8080 &
    env/bin/python scripts/check_agents.py --url http://127.0.0.1:8080/v1
"""

import argparse

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

started = []


@tool
def set_timer(minutes: int) -> str:
    """Start a timer"""
    started.append(minutes)
    return f"a timer for {minutes} minutes is running"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8080/v1")
    parser.add_argument("--key", default="unused")
    parser.add_argument("--model", required=True)
    arguments = parser.parse_args()
    model = ChatOpenAI(base_url=arguments.url, api_key=arguments.key, model=arguments.model, max_retries=0)
    model = model.bind_tools([set_timer], tool_choice="auto")
    messages = [HumanMessage("set a timer for 12 minutes")]
    for turn in range(5):
        answer = model.invoke(messages)
        messages.append(answer)
        print(f"turn {turn}: {answer.tool_calls or repr(answer.content)}")
        if not answer.tool_calls:
            break
        for call in answer.tool_calls:
            messages.append(ToolMessage(set_timer.invoke(call["args"]), tool_call_id=call["id"]))
    assert turn == 1 and len(started) == 1, (turn, started)
    streamed = None
    for chunk in model.stream(messages[:1]):
        streamed = chunk if streamed is None else streamed + chunk
    assert [call["args"] for call in streamed.tool_calls] == [call["args"] for call in messages[1].tool_calls]
    print("the loop ends, and a stream has the same calls")


if __name__ == "__main__":
    main()
