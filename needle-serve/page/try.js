// Try: ask a model, watch its tokens, rank tools, correct an answer.

import { api, openai, stream } from "./api.js";
import { $, element, offer, percent, say, trying } from "./dom.js";

const EXAMPLE = [
  { name: "set_timer", description: "Start a timer", parameters: { minutes: { type: "integer", description: "How long", required: true } } },
  { name: "send_message", description: "Send a message to a contact", parameters: { recipient: { type: "string", required: true }, text: { type: "string", required: true } } },
];

// The query and the tools that the shown answer belongs to.
let asked = null;

export function setUpTry(refresh) {
  $("tools").value = localStorage.getItem("needle-tools") ?? JSON.stringify(EXAMPLE, null, 2);
  let waiting;
  $("tools").addEventListener("input", () => {
    localStorage.setItem("needle-tools", $("tools").value);
    clearTimeout(waiting);
    waiting = setTimeout(check, 300);
  });
  $("abstain").addEventListener("input", showAbstain);
  $("try-model").addEventListener("change", () => refresh());
  $("try-form").addEventListener("submit", (event) => {
    event.preventDefault();
    trying(ask);
  });
  $("rank").addEventListener("click", () => trying(rank));
  $("correct-form").addEventListener("submit", (event) => {
    event.preventDefault();
    trying(() => correct(refresh));
  });
  return (state) => {
    offer($("try-model"), state.models);
    const isCalibrated = state.calibrated.includes($("try-model").value);
    $("abstain").disabled = !isCalibrated;
    $("abstain-label").title = isCalibrated ? "" : "This model has no calibrated confidence";
    if (!isCalibrated) $("abstain").value = 0;
    showAbstain();
    if (state.tools.length && !localStorage.getItem("needle-tools")) $("tools").value = JSON.stringify(state.tools, null, 2);
  };
}

function showAbstain() {
  const least = Number($("abstain").value);
  $("abstain-value").textContent = least ? percent(least) : "never";
}

function showProblem(error) {
  const isOfTools = error?.param?.startsWith("tools");
  $("tools-problem").textContent = isOfTools ? error.message : "";
  $("tools").setAttribute("aria-invalid", Boolean(isOfTools));
  return isOfTools;
}

async function check() {
  try {
    await api("tools", { text: $("tools").value });
    showProblem(null);
  } catch (error) {
    showProblem(error);
  }
}

async function ask() {
  asked = null;
  $("ask").disabled = true;
  $("pieces").replaceChildren();
  $("verdict").textContent = "";
  const [query, tools] = [$("query").value, $("tools").value];
  const body = { model: $("try-model").value, query, tools, has_to_call: $("try-call").checked, abstain_below: Number($("abstain").value) };
  try {
    await stream("try", body, (event, data) => {
      if (event === "piece") addPiece(data);
      else if (event === "done") finish(query, tools, data);
      else say(data.error.message, true);
    });
    showProblem(null);
  } catch (error) {
    if (!showProblem(error)) throw error;
  } finally {
    $("ask").disabled = false;
  }
}

function addPiece({ text, probability }) {
  if (!text) return;
  const piece = element("span", {}, text);
  if (typeof probability === "number") {
    piece.className = "piece";
    piece.title = percent(probability);
    // From red (improbable) to green.
    piece.style.borderColor = `hsl(${Math.round(130 * probability)} 60% 50%)`;
  }
  $("pieces").append(piece);
}

function finish(query, tools, answer) {
  asked = { query, tools };
  $("right").value = JSON.stringify(answer.calls, null, 2);
  const parts = [];
  if (answer.abstained) parts.push("Withheld: the confidence is below the threshold.");
  else if (!answer.complete) parts.push("The answer is not complete.");
  else if (!answer.calls.length) parts.push("No tool fits.");
  if (typeof answer.confidence === "number") parts.push(`Confidence ${percent(answer.confidence)}.`);
  parts.push(...answer.violations);
  if (answer.cut) parts.push(`${answer.cut}.`);
  if (answer.picked) parts.push(`Offered: ${answer.picked.join(", ")}.`);
  parts.push(`${answer.prompt_tokens} tokens read, ${answer.completion_tokens} written, ${(1000 * answer.seconds).toFixed(0)} ms.`);
  $("verdict").textContent = parts.join(" ");
}

async function rank() {
  const { tools } = await api("tools", { text: $("tools").value });
  const { data } = await openai("tools/rank", { model: $("try-model").value, query: $("query").value, tools, top_k: 20 });
  const number = (value) => element("td", { class: "number" }, typeof value === "number" ? value.toFixed(3) : "–");
  const rows = data.map((tool) =>
    element("tr", {}, element("td", {}, tool.name), number(tool.score), number(tool.similarity), number(tool.word_score)));
  $("ranking").tBodies[0].replaceChildren(...rows);
  $("ranking").hidden = false;
}

async function correct(refresh) {
  if (!asked) throw new Error("ask something first");
  const answers = JSON.parse($("right").value);
  await api(`data/${encodeURIComponent($("correct-data").value)}/append`, { query: asked.query, tools: JSON.parse(asked.tools), answers });
  await refresh();
  say(`Added to ${$("correct-data").value}.`);
}
