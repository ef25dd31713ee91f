// Ship: verified exports, downloads, and snippets that call the server.

import { api, download } from "./api.js";
import { $, element, megabytes, offer, say, trying } from "./dom.js";

export function setUpShip(refresh) {
  $("export-form").addEventListener("submit", (event) => {
    event.preventDefault();
    trying(async () => {
      say("Exporting, and comparing the artifact with the model …");
      const made = await api("exports", { model: $("export-model").value, format: $("export-format").value });
      await refresh();
      say(`Exported ${made.name}.`);
    });
  });
  $("export-model").addEventListener("change", snippets);
  return (state) => {
    const runs = state.runs.filter((run) => run.status === "finished" || run.status === "stopped").map((run) => run.name);
    offer($("export-model"), [...runs, ...state.bases]);
    offer($("export-format"), state.formats);
    $("exports").replaceChildren(...state.exports.map(shown));
    snippets();
  };
}

function shown({ name, files, proof }) {
  const link = (file) => element("li", {},
    element("button", { class: "quiet", onclick: () => trying(() => download(`exports/${encodeURIComponent(name)}/${encodeURIComponent(file.name)}`, file.name)) }, file.name),
    ` ${megabytes(file.bytes)}`);
  const facts = proof && Object.entries(proof).filter(([, value]) => typeof value !== "object").map(([key, value]) => `${key.replaceAll("_", " ")}: ${value}`);
  return element("article", {}, element("h2", {}, name),
    element("p", {}, facts ? `Verified against the model: ${facts.join(", ")}.` : "Not verified."),
    element("ul", {}, ...files.map(link)));
}

function snippets() {
  const model = $("export-model").value || "MODEL";
  const tool = { type: "function", function: { name: "set_timer", description: "Start a timer", parameters: { type: "object", properties: { minutes: { type: "integer" } }, required: ["minutes"] } } };
  const body = JSON.stringify({ model, messages: [{ role: "user", content: "a timer for ten minutes" }], tools: [tool] });
  $("snippet-curl").textContent = `curl ${location.origin}/v1/chat/completions -d '${body}'`;
  $("snippet-python").textContent = `from openai import OpenAI

client = OpenAI(base_url="${location.origin}/v1", api_key="unused")
answer = client.chat.completions.create(
    model="${model}",
    messages=[{"role": "user", "content": "a timer for ten minutes"}],
    tools=[${JSON.stringify(tool)}],
)
for call in answer.choices[0].message.tool_calls or []:
    print(call.function.name, call.function.arguments)`;
  $("snippet-rust").textContent = `let tools = needle_runtime::tools_from_json(&std::fs::read_to_string("tools.json")?)?;
let needle = needle_runtime::Needle::load("${model}")?;
for call in needle.call("a timer for ten minutes", &tools)?.calls {
    println!("{} {:?}", call.name, call.arguments);
}`;
}
