// Finetune: start, watch, stop, resume, and compare with the base.

import { api } from "./api.js";
import { $, element, offer, percent, say, trying } from "./dom.js";

const METRICS = [
  ["exact_match", "Exact match"], ["call_f1", "Call F1"], ["name_f1", "Name F1"], ["args_accuracy", "Arguments"],
  ["value_accuracy", "Values"], ["no_tool_recall", "No-call recall"], ["recall_at_1", "Recall at 1"],
];

// The metrics of the run on the page, as far as they have been fetched.
let shown = { name: "", next: 0, metrics: [] };
let timer;

export function setUpFinetune(refresh, open) {
  const path = (what) => `runs/${encodeURIComponent($("run-name").value)}/${what}`;
  const act = (id, work) => $(id).addEventListener("click", () => trying(work));
  $("start-base").addEventListener("change", () => ($("start-model-label").hidden = $("start-base").value !== "none"));
  $("run-name").addEventListener("change", () => trying(watch));
  $("start-form").addEventListener("submit", (event) => {
    event.preventDefault();
    trying(async () => {
      const name = $("start-name").value;
      const minutes = Number($("start-minutes").value);
      await api(`runs/${encodeURIComponent(name)}/start`, {
        data: $("start-data").value, base: $("start-base").value, model: $("start-model").value,
        max_minutes: minutes > 0 ? minutes : null, skip_invalid: $("start-skip").checked,
      });
      await refresh();
      $("run-name").value = name;
      await watch();
    });
  });
  act("run-stop", async () => {
    await api(path("stop"), {});
    await watch();
  });
  act("run-resume", async () => {
    await api(path("resume"), {});
    // Resuming writes the metrics after the last checkpoint again, so fetch them all.
    shown = { name: "", next: 0, metrics: [] };
    await watch();
  });
  act("run-load", async () => {
    const name = $("run-name").value;
    await api(path("load"), {});
    open("try");
    await refresh();
    $("try-model").value = name;
    say(`${name} is loaded.`);
  });
  return (state) => {
    offer($("start-data"), state.data);
    const done = state.runs.filter((run) => run.status === "finished").map((run) => run.name);
    offer($("start-base"), [...state.bases, ...done, "none"], [...state.bases, ...done, "a new model"]);
    $("start-model-label").hidden = $("start-base").value !== "none";
    offer($("run-name"), state.runs.map((run) => run.name));
    if (!$("finetune").hidden) trying(watch);
  };
}

async function watch() {
  clearTimeout(timer);
  const name = $("run-name").value;
  for (const id of ["run-stop", "run-resume", "run-load"]) $(id).disabled = true;
  if (!name) return;
  if (shown.name !== name) shown = { name, next: 0, metrics: [] };
  const asked = shown;
  const after = asked.next;
  const run = await api(`runs/${encodeURIComponent(name)}?after=${after}`);
  // Another run has been selected in the meantime, or these lines have been fetched already.
  if (shown !== asked || shown.next !== after) return;
  shown.metrics.push(...run.metrics);
  shown.next = run.next;
  $("run-status").textContent = run.status;
  $("run-command").textContent = run.command;
  $("run-log").textContent = run.log;
  $("run-stop").disabled = run.status !== "running";
  $("run-resume").disabled = run.status !== "stopped" && run.status !== "failed";
  $("run-load").disabled = run.status !== "finished" && run.status !== "stopped";
  draw(shown.metrics);
  compare(run.report);
  if (run.status === "failed") say(run.log.split("\n").reverse().find((line) => line.startsWith("error")) ?? "The finetune failed.", true);
  const isLive = run.status === "running" || run.status === "stopping";
  if (isLive && !$("finetune").hidden) timer = setTimeout(() => trying(watch), 1000);
}

const svg = (name, attributes, text = "") => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
};

function draw(metrics) {
  const points = (event, key) => metrics.filter((m) => m.event === event && Number.isFinite(m[key])).map((m) => [m.step, m[key]]);
  const curves = [["train", points("step", "cross_entropy")], ["validation", points("validation_loss", "validation_loss_int4")]];
  const all = curves.flatMap(([, curve]) => curve);
  $("chart").hidden = all.length === 0;
  if (!all.length) return;
  const [left, top, width, height] = [44, 8, 586, 200];
  const most = { x: Math.max(1, ...all.map((p) => p[0])), y: Math.max(...all.map((p) => p[1])) || 1 };
  const at = ([x, y]) => `${(left + (width * x) / most.x).toFixed(1)},${(top + height * (1 - y / most.y)).toFixed(1)}`;
  const parts = [
    svg("path", { class: "axis", fill: "none", d: `M${left} ${top}V${top + height}H${left + width}` }),
    svg("text", { x: left - 4, y: top + 10, "text-anchor": "end" }, most.y.toFixed(2)),
    svg("text", { x: left - 4, y: top + height, "text-anchor": "end" }, "0"),
    svg("text", { x: left + width, y: top + height + 16, "text-anchor": "end" }, `step ${most.x}`),
    ...curves.filter(([, curve]) => curve.length).map(([kind, curve]) => svg("polyline", { class: kind, points: curve.map(at).join(" ") })),
  ];
  $("loss").replaceChildren(...parts);
  const last = (curve) => (curve.length ? curve.at(-1)[1].toFixed(3) : "–");
  $("loss-caption").textContent = `Training loss ${last(curves[0][1])} (line), validation loss at INT4 ${last(curves[1][1])} (dashed).`;
}

function compare(report) {
  $("comparison").replaceChildren();
  if (!report?.after) return;
  const cell = (value) => element("td", { class: "number" }, percent(value));
  const rows = METRICS.map(([key, label]) =>
    element("tr", {}, element("td", {}, label), cell(report.before?.[key]), cell(report.after[key])));
  const head = element("thead", {}, element("tr", {}, ...["", "Base", "Finetuned"].map((text) => element("th", {}, text))));
  $("comparison").append(
    element("table", { id: "before-after" }, element("caption", {}, `On ${report.after.n} examples that neither model was trained on`), head, element("tbody", {}, ...rows)),
    ...report.warnings.map((warning) => element("p", { class: "problem" }, warning)),
    changes("Fixed", report.mended), changes("Broken", report.broken));
}

function changes(title, list) {
  const rows = list.slice(0, 20).map((change) => element("tr", {}, ...[change.query, change.before, change.after].map((text) => element("td", {}, text))));
  const head = element("tr", {}, ...["Query", "Base", "Finetuned"].map((text) => element("th", {}, text)));
  return element("details", {}, element("summary", {}, `${title}: ${list.length}`), element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
}
