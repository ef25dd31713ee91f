#!/usr/bin/env python3
"""Checks a running `needle serve` with OpenAI's official client: sync, async and streaming, chat completions and responses.

    python3 -m venv env && env/bin/pip install openai
    needle serve quickstart --port 8080 &
    env/bin/python scripts/check_openai.py --url http://127.0.0.1:8080/v1

Prints a line for each check, and fails at the first that does not meet the client's expectations.
"""

import argparse
import asyncio
import json

import openai

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {"type": "object", "properties": properties, "required": list(properties)},
        },
    }
    for name, description, properties in [
        ("set_timer", "Start a timer", {"minutes": {"type": "integer"}}),
        ("send_message", "Send a message to a contact", {"recipient": {"type": "string"}, "text": {"type": "string"}}),
    ]
]
MESSAGES = [{"role": "user", "content": "set a timer for 12 minutes"}]


def said(what):
    print(f"ok  {what}", flush=True)


def check_calls(calls):
    for call in calls:
        assert call.id.startswith("call_") and call.type == "function"
        assert call.function.name in ("set_timer", "send_message")
        assert isinstance(json.loads(call.function.arguments), dict)


def check_chat(client, model):
    request = dict(model=model, messages=MESSAGES, tools=TOOLS)
    whole = client.chat.completions.create(**request, tool_choice="required")
    message = whole.choices[0].message
    assert message.content is None and whole.choices[0].finish_reason == "tool_calls"
    check_calls(message.tool_calls)
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    said(f"chat completion: {message.tool_calls[0].function.name}({message.tool_calls[0].function.arguments})")

    chosen = {"type": "function", "function": {"name": "send_message"}}
    named = client.chat.completions.create(**request, tool_choice=chosen, parallel_tool_calls=False)
    assert [call.function.name for call in named.choices[0].message.tool_calls] == ["send_message"]
    assert named.choices[0].finish_reason == "stop"
    said("a named tool")

    nothing = client.chat.completions.create(**request, tool_choice="none")
    assert nothing.choices[0].message.tool_calls is None and nothing.choices[0].finish_reason == "stop"
    said("tool_choice none")

    chunks = list(
        client.chat.completions.create(
            **request, tool_choice="required", stream=True, stream_options={"include_usage": True}
        )
    )
    pieces = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert pieces[0].role == "assistant" and chunks[-1].usage.total_tokens > 0
    arguments = {}
    for piece in pieces:
        for call in piece.tool_calls or []:
            arguments[call.index] = arguments.get(call.index, "") + call.function.arguments
    assert arguments == {i: call.function.arguments for i, call in enumerate(message.tool_calls)}
    said(f"a stream of {len(chunks)} chunks is the unstreamed answer")

    with client.chat.completions.stream(**request, tool_choice="required") as stream:
        events = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in events
    assert final.choices[0].message.tool_calls[0].function.arguments == message.tool_calls[0].function.arguments
    said("the client's own accumulation of a stream")

    first = message.tool_calls[0]
    turn = MESSAGES + [message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": first.id, "content": "done"}]
    last = client.chat.completions.create(model=model, messages=turn, tools=TOOLS)
    assert last.choices[0].message.tool_calls is None and last.choices[0].finish_reason == "stop"
    said("the result of a tool ends the loop")


def check_responses(client, model):
    tools = [{"type": "function", "strict": False, **tool["function"]} for tool in TOOLS]
    request = dict(model=model, input="set a timer for 12 minutes", tools=tools, tool_choice="required")
    whole = client.responses.create(**request)
    assert whole.id.startswith("resp_") and whole.status == "completed"
    call = whole.output[0]
    assert call.type == "function_call" and call.call_id.startswith("call_")
    json.loads(call.arguments)
    said(f"response: {call.name}({call.arguments})")

    events = list(client.responses.create(**request, stream=True))
    deltas = "".join(e.delta for e in events if e.type == "response.function_call_arguments.delta" and e.output_index == 0)
    assert deltas == call.arguments and events[-1].type == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    with client.responses.stream(**request) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output[0].arguments == call.arguments
    said(f"a stream of {len(events)} events")

    result = {"type": "function_call_output", "call_id": call.call_id, "output": "done"}
    turn = [{"role": "user", "content": request["input"]}, call.model_dump(exclude_none=True), result]
    last = client.responses.create(model=model, input=turn, tools=tools)
    assert last.output_text == ""
    said("the output of a function ends the loop")


def check_rest(client, model):
    assert model in [listed.id for listed in client.models.list()]
    assert client.models.retrieve(model).id == model
    said("models")
    vectors = client.embeddings.create(model=model, input=["a timer", "a message"]).data
    length = sum(x * x for x in vectors[0].embedding)
    assert len(vectors) == 2 and abs(length - 1) < 1e-3
    said(f"embeddings of {len(vectors[0].embedding)} numbers")
    for error, request in [
        (openai.NotFoundError, dict(model="no-such-model", messages=MESSAGES, tools=TOOLS)),
        (openai.BadRequestError, dict(model=model, messages=MESSAGES, tools=TOOLS, n=2)),
        (openai.BadRequestError, dict(model=model, messages=[], tools=TOOLS)),
    ]:
        try:
            client.chat.completions.create(**request)
        except error as caught:
            assert caught.body["message"]
        else:
            raise AssertionError(f"expected {error}")
    said("errors are the client's own exceptions")


async def check_async(url, key, model):
    async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
        request = dict(model=model, messages=MESSAGES, tools=TOOLS, tool_choice="required")
        answers = await asyncio.gather(*(client.chat.completions.create(**request) for _ in range(8)))
        texts = {answer.choices[0].message.tool_calls[0].function.arguments for answer in answers}
        assert len(texts) == 1
        pieces = ""
        async for chunk in await client.chat.completions.create(**request, stream=True):
            for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
                pieces += call.function.arguments if call.index == 0 else ""
        assert {pieces} == texts
    said("eight at once, and an asynchronous stream")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8080/v1")
    parser.add_argument("--key", default="unused")
    arguments = parser.parse_args()
    client = openai.OpenAI(base_url=arguments.url, api_key=arguments.key, max_retries=0)
    model = next(iter(client.models.list())).id
    check_chat(client, model)
    check_responses(client, model)
    check_rest(client, model)
    asyncio.run(check_async(arguments.url, arguments.key, model))
    print(f"all checks passed with openai {openai.__version__}")


if __name__ == "__main__":
    main()
