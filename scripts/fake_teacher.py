#!/usr/bin/env python3
"""Replaces a large model, to try `needle data generate` offline (docs/TEACHER.md). Needs only the standard library.

Serves POST /v1/chat/completions on 127.0.0.1, and answers the requests of `needle data generate | paraphrase | negatives` from templates:
good ones for the tools of configs/examples/smart_home_tools.json, plain ones for any other tool. Equal requests get equal answers.
`--sloppy SHARE` makes that share of the rows wrong and that share of the requests fail, so that there is something to reject.

    scripts/fake_teacher.py --port 8123
"""

import argparse
import hashlib
import json
import random
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROOMS = "kitchen,bedroom,living room,hallway,study,nursery,garage,attic,guest room,laundry room,dining room,basement,conservatory,workshop".split(",")
LONG_ROOMS = ["small room at the end of the upstairs hall", "guest room next to the big staircase", "storage room behind the old kitchen",
              "reading corner by the large window", "workshop under the garden terrace", "second bathroom across from the study"]
DOORS = "front door,back door,garden gate,garage door,cellar door,balcony door,side entrance,shed door".split(",")
WORDS = "amber birch copper delta ember fjord ginger harbor indigo juniper kestrel lantern meadow nectar orchard pepper quartz river saffron \
timber umbra violet willow xenon yarrow zephyr".split()
OPENINGS = ["", "please ", "could you ", "hey, ", "can you ", "I'd like you to ", "would you ", "quick one: ", "when you can, ", "go ahead and ",
            "time to ", "be so kind and ", "ok, ", "right, ", "let's "]
CLOSINGS = ["", " please", " now", ", thanks", " for me", " before I leave", " when you get a moment", " as always", " tonight", " right away"]
UNRELATED = ["who wrote the story about the {w} {v}", "how tall is the {w} tower in {v}", "tell me a joke about a {w} {v}", "what rhymes with {w} and {v}",
             "translate {w} {v} into Latin", "is a {w} {v} good with rice", "what's the capital of the {w} {v} region", "do I need a visa for {w} {v}",
             "sing something about {w} and {v}", "how many legs has a {w} {v}", "recommend a novel about {w} and {v}"]
LANGUAGES = {"Spanish": "por favor, ahora mismo: {s}, gracias", "German": "bitte sei so gut: {s}, danke dir", "French": "s'il te plaît: {s}, merci bien",
             "Portuguese": "por favor, faça isto: {s}, obrigado", "Italian": "per favore, fai così: {s}, grazie mille"}

# For each known tool: (phrases with their arguments), (indirect wishes), (near misses). {x} is drawn from the pool of x.
KNOWN = {
    "set_light": (
        [("switch the light in the {room} on", {"room": "{room}", "on": True}), ("turn off the lamps in the {room}", {"room": "{room}", "on": False}),
         ("dim the lights in the {room} to {percent} percent", {"room": "{room}", "brightness": "{percent}"}),
         ("make it {percent} percent bright in the {room}", {"room": "{room}", "brightness": "{percent}"})],
        [("I can hardly see my hands in the {room}", {"room": "{room}", "on": True}), ("it is pitch dark in the {room} and I lost my {w}", {"room": "{room}", "on": True})],
        ["how many bulbs are in the {room}, the {w} ones", "paint the {room} lamp {w}", "what does the {w} light in the {room} cost to run"]),
    "set_thermostat": (
        [("set the {room} to {degrees} degrees", {"degrees": "{degrees}", "room": "{room}"}), ("heat the {room} to {degrees} degrees", {"degrees": "{degrees}", "room": "{room}", "mode": "heat"}),
         ("cool the whole house down to {degrees}", {"degrees": "{degrees}", "mode": "cool"}), ("I want {degrees} degrees in here", {"degrees": "{degrees}"})],
        [("my toes are freezing in the {room}, {degrees} would be bliss", {"degrees": "{degrees}", "room": "{room}"}), ("at {degrees} nobody would shiver in the {room}", {"degrees": "{degrees}", "room": "{room}"})],
        ["how warm was the {room} on the day of the {w} party", "order a {w} heater for the {room}", "why does the {room} radiator smell of {w}"]),
    "lock_door": (
        [("lock the {door}", {"door": "{door}", "locked": True}), ("unlock the {door}", {"door": "{door}", "locked": False}),
         ("make sure that the {door} is locked", {"door": "{door}", "locked": True})],
        [("I am about to fall asleep and the {door} worries me", {"door": "{door}", "locked": True}), ("the courier with the {w} parcel waits outside at the {door}", {"door": "{door}", "locked": False})],
        ["who rang at the {door} with the {w} umbrella", "paint the {door} {w}", "order a second key for the {door}, the {w} one"]),
    "set_blinds": (
        [("open the blinds in the {room} to {percent} percent", {"room": "{room}", "percent": "{percent}"}), ("put the {room} blinds at {percent}", {"room": "{room}", "percent": "{percent}"}),
         ("bring the shades in the {room} to {percent} percent", {"room": "{room}", "percent": "{percent}"})],
        [("the sun is too harsh in the {room}, {percent} percent of it would do", {"room": "{room}", "percent": "{percent}"})],
        ["wash the {w} curtains of the {room}", "how wide is the window in the {room} with the {w} frame", "what fabric suits the {room}, {w} or plain"]),
    "start_vacuum": (
        [("vacuum the {room}", {"room": "{room}"}), ("let the robot clean the {room} on {power}", {"room": "{room}", "power": "{power}"}),
         ("send the vacuum to the {room} with {power} power", {"room": "{room}", "power": "{power}"})],
        [("the cat left {w} crumbs all over the {room}", {"room": "{room}"}), ("there is {w} glitter on the floor of the {room}", {"room": "{room}"})],
        ["mop the {w} stain in the {room}", "how full is the dust bag after the {room} and the {w} rug", "which vacuum is best for {w} hair in a {room}"]),
}


class Writer:
    def __init__(self, question, sloppy):
        self.random = random.Random(hashlib.sha256(question.encode()).digest())
        self.sloppy = sloppy

    def word(self):
        return self.random.choice(WORDS)

    def pool(self, name, is_long):
        draw = {"room": LONG_ROOMS if is_long else ROOMS, "door": [room + " " + "door" for room in LONG_ROOMS] if is_long else DOORS, "w": WORDS, "v": WORDS,
                "percent": list(range(5, 100)), "degrees": list(range(15, 29)), "power": ["low", "medium", "high"]}
        return self.random.choice(draw[name])

    def fill(self, phrase, arguments, is_long=False):
        values = {name: self.pool(name, is_long) for name in ("room", "door", "w", "v", "percent", "degrees", "power")}
        said = phrase.format(**values)
        return said, {name: values[value[1:-1]] if str(value).startswith("{") else value for name, value in arguments.items()}

    def plain(self, tool, is_long):
        """A phrase for an unknown tool: its description, and each value with the name of its argument."""
        said, arguments = [], {}
        for name, spec in tool["parameters"].items():
            if not spec.get("required") and self.random.random() < 0.5:
                continue
            kind = spec.get("type")
            if "enum" in spec:
                value = self.random.choice(spec["enum"])
            elif kind in ("integer", "int", "number", "float"):
                value = self.random.randint(2, 90)
            elif kind in ("boolean", "bool"):
                value = True
            elif kind in ("array", "list"):
                value = [self.word(), self.word()]
            else:
                value = " ".join(self.word() for _ in range(6 if is_long else 2))
            arguments[name] = value
            shown = " and ".join(value) if isinstance(value, list) else str(value)
            said.append(name.replace("_", " ") + (" " + shown if kind not in ("boolean", "bool") else ""))
        does = tool.get("description", "").rstrip(".").lower() or "do the " + tool["name"].replace("_", " ")
        return does + (" with " if said else " ") + ", ".join(said), arguments

    def call(self, tool, is_long=False):
        known = KNOWN.get(tool["name"])
        phrases = known and [p for p in known[0] if not is_long or "{room}" in p[0] or "{door}" in p[0]]
        said, arguments = self.fill(*self.random.choice(phrases), is_long) if phrases else self.plain(tool, is_long)
        return said, {"name": tool["name"], "arguments": arguments}

    def polite(self, said):
        return self.random.choice(OPENINGS) + said + self.random.choice(CLOSINGS)

    def ask(self, question):
        return self.random.choice(["", "hey, ", "quick one: ", "ok, ", "say, ", "by the way, ", "just curious, "]) + question + self.random.choice(["", "?", "?", ", any idea?"])

    def garble(self, said, calls):
        kept = json.dumps(calls).lower()
        words = said.lower().split(" ")
        places = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha() and word not in kept]
        for i in self.random.sample(places, min(2, len(places))):
            at = self.random.randrange(1, len(words[i]) - 1)
            words[i] = words[i][:at] + words[i][at + 1] + words[i][at] + words[i][at + 2:]
        return " ".join(words)

    def row(self, task, tools):
        kind = task["kind"]
        focus = next((tool for tool in tools if tool["name"] == task["focus_tool"]), tools[0])
        known = KNOWN.get(focus["name"])
        if kind == "paraphrase":
            return {"query": self.polite(task["source"]["query"] + self.random.choice([", if possible", " - I nearly forgot", ", as we said", ", once more"]))}
        if kind == "none_fits":
            return {"query": self.ask(self.fill(self.random.choice(UNRELATED), {})[0]), "answers": []}
        if kind == "near_miss":
            does = focus.get("description", focus["name"]).rstrip(".").lower()
            misses = known[2] if known else ["who invented a way to " + does + " for the {w} {v}", "what is the history of: " + does + ", and of {w} {v}"]
            return {"query": self.ask(self.fill(self.random.choice(misses), {})[0]), "answers": []}
        if kind in ("several", "twice"):
            second = focus if kind == "twice" else self.random.choice([tool for tool in tools if tool is not focus] or [focus])
            said, calls = zip(self.call(focus), self.call(second))
            joined = self.random.choice([" and then ", " and ", "; also "]).join(said)
            return {"query": self.polite(joined), "answers": list(calls)}
        if kind == "indirect" and known:
            said, arguments = self.fill(*self.random.choice(known[1]))
            ending = self.random.choice(["", ", sadly", ", as ever", " again", ", would you believe it", " and it is only " + self.word() + " season"])
            return {"query": said + ending, "answers": [{"name": focus["name"], "arguments": arguments}]}
        said, call = self.call(focus, kind == "long_values")
        if kind == "disfluent":
            said = self.random.choice(["um, ", "uh, so, ", "er, wait, ", "hm, "]) + said.replace(" the ", " the, uh, ", 1) + self.random.choice(["", ", yeah", ", I mean it"])
        elif kind == "garbled":
            said = self.garble(said, [call])
        elif kind == "other_language":
            said = LANGUAGES.get(task["language"], "please: {s}, thank you").format(s=said)
        else:
            said = self.polite(said)
        return {"query": said, "answers": [call]}

    def rows(self, question):
        task, out = question["assignment"], []
        for _ in range(task["rows"]):
            row = self.row(task, question["tools"])
            if self.random.random() < self.sloppy:
                row = self.random.choice([{"query": "do the thing", "answers": row.get("answers", [])}, {"query": row["query"], "answers": [{"name": "nothing"}]},
                                          {"query": ""}])
            out.append(row)
        return {"rows": out}

    def tools(self, question):
        def tool(number):
            noun = self.word()
            parameters = [{"name": "title", "type": "string", "description": "Title", "required": True, "enum": None},
                          {"name": "amount", "type": "integer", "description": "How many", "required": False, "enum": None}]
            return {"name": f"{self.random.choice(['add', 'find', 'book', 'cancel'])}_{noun}_{number}", "description": f"Handle the {noun} of {question['domain']}", "parameters": parameters}

        return {"tools": [tool(len(question["have"]) + i) for i in range(question["count"])]}

    def answer(self, question):
        if "assignment" in question:
            return self.rows(question)
        if "domain" in question:
            return self.tools(question)
        return {"reason": "the values stand in the query", "is_right": True}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--sloppy", type=float, default=0.0, metavar="SHARE")
    options = parser.parse_args()
    failing = random.Random(0)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self, status, value, headers=()):
            body = json.dumps(value).encode()
            self.send_response(status)
            for name, header in [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers]:
                self.send_header(name, header)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            if self.path != "/v1/chat/completions":
                return self.reply(404, {"error": {"message": f"no such path: {self.path}"}})
            if failing.random() < options.sloppy:
                return self.reply(429, {"error": {"message": "slow down"}}, [("Retry-After", "1")])
            text = request["messages"][-1]["content"]
            content = json.dumps(Writer(text, options.sloppy).answer(json.loads(text)), ensure_ascii=False)
            usage = {"prompt_tokens": sum(len(m["content"]) for m in request["messages"]) // 4, "completion_tokens": len(content) // 4}
            message = {"role": "assistant", "content": content}
            self.reply(200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})

        def log_message(self, *_):
            pass

    print(f"http://127.0.0.1:{options.port}/v1", flush=True)
    ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
