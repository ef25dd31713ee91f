// Data: the lines of a file of examples, each with its problem.

import { api } from "./api.js";
import { $, element, offer, say, trying } from "./dom.js";

const LINES = 50;
let offset = 0;
// How often the lines were asked for: an answer that a later question has overtaken is not shown.
let asked = 0;

export function setUpData(refresh) {
  const again = () => trying(show);
  const first = () => {
    offset = 0;
    again();
  };
  for (const id of ["data-name", "data-tool", "data-problems"]) $(id).addEventListener("change", first);
  $("data-text").addEventListener("input", first);
  $("lines-before").addEventListener("click", () => {
    offset = Math.max(0, offset - LINES);
    again();
  });
  $("lines-after").addEventListener("click", () => {
    offset += LINES;
    again();
  });
  $("upload").addEventListener("change", () => trying(() => upload(refresh)));
  return (state) => {
    offer($("data-name"), state.data);
    if (!$("data").hidden) again();
  };
}

async function upload(refresh) {
  const file = $("upload").files[0];
  if (!file) return;
  const name = file.name.replace(/\.jsonl$/, "").replace(/[^A-Za-z0-9._-]/g, "_").replace(/^[.-]+/, "") || "mine";
  const path = `data/${encodeURIComponent(name)}/upload`;
  try {
    await api(path, file);
  } catch (error) {
    if (error.status !== 409 || !confirm(`${error.message}. Replace it?`)) throw error;
    await api(`${path}?replace=true`, file);
  } finally {
    $("upload").value = "";
  }
  await refresh();
  $("data-name").value = name;
  await show();
  say(`Uploaded ${name}.`);
}

async function show() {
  const name = $("data-name").value;
  if (!name) {
    $("data-summary").textContent = "No examples yet: upload a file, or correct an answer in Try.";
    return;
  }
  const query = new URLSearchParams({ offset });
  if ($("data-tool").value) query.set("tool", $("data-tool").value);
  if ($("data-text").value) query.set("text", $("data-text").value);
  if ($("data-problems").checked) query.set("problems", "true");
  asked += 1;
  const turn = asked;
  const page = await api(`data/${encodeURIComponent(name)}?${query}`);
  if (turn !== asked) return;
  const tools = Object.keys(page.tools);
  offer($("data-tool"), ["", ...tools], ["any tool", ...tools.map((tool) => `${tool} (${page.tools[tool]})`)]);
  $("data-summary").textContent = `${page.used} examples, ${page.problems} with problems; ${page.matching} match.`;
  $("lines").replaceChildren(...page.lines.map((line) => shown(name, line)));
  $("lines-before").disabled = offset === 0;
  $("lines-after").disabled = offset + LINES >= page.matching;
}

function shown(name, line) {
  const item = element("li", {}, element("div", {}, `${line.line}. ${line.query ?? line.text.slice(0, 200)}`));
  if (line.problem) item.append(element("div", { class: "problem" }, `${line.problem.field}: ${line.problem.reason}`));
  else item.append(element("div", { class: "calls" }, line.answers.map((call) => `${call.name}(${JSON.stringify(call.arguments)})`).join(" ") || "no call"));
  item.append(element("button", { class: "quiet", onclick: () => edit(item, name, line) }, "Edit"));
  return item;
}

function edit(item, name, line) {
  const text = element("textarea", { rows: 8, spellcheck: "false", "aria-label": `Line ${line.line}` });
  text.value = line.text;
  const save = (after) => trying(async () => {
    await api(`data/${encodeURIComponent(name)}/replace`, { line: line.line, before: line.text, after });
    await show();
    say(after === null ? "Removed." : "Saved.");
  });
  const row = element("div", { class: "row" },
    element("button", { onclick: () => save(text.value.replace(/\n\s*/g, " ")) }, "Save"),
    element("button", { onclick: () => save(null) }, "Remove"),
    element("button", { onclick: () => trying(show) }, "Cancel"));
  item.replaceChildren(text, row);
  text.focus();
}
