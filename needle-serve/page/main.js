// The page's frame: tabs, the API key, and the state of the server.

import { api, setKey } from "./api.js";
import { setUpTry } from "./try.js";
import { setUpData } from "./data.js";
import { setUpFinetune } from "./finetune.js";
import { setUpShip } from "./ship.js";
import { $, say } from "./dom.js";

const tabs = [...document.querySelectorAll("[role=tab]")];

function show(tab) {
  for (const other of tabs) {
    const isShown = other === tab;
    other.setAttribute("aria-selected", isShown);
    other.tabIndex = isShown ? 0 : -1;
    $(other.getAttribute("aria-controls")).hidden = !isShown;
  }
  say("");
  location.hash = tab.getAttribute("aria-controls");
  refresh();
}

for (const [i, tab] of tabs.entries()) {
  tab.addEventListener("click", () => show(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const next = { Home: 0, End: tabs.length - 1 }[event.key] ?? (step && (i + step + tabs.length) % tabs.length);
    if (next !== undefined) {
      event.preventDefault();
      show(tabs[next]);
      tabs[next].focus();
    }
  });
}

// Each part's update, for when the server's models, data, runs or exports may have changed.
const parts = [];

async function refresh() {
  let state;
  try {
    state = await api("state");
  } catch (error) {
    $("key-form").hidden = error.status !== 401;
    say(error.message, true);
    return;
  }
  $("key-form").hidden = true;
  for (const part of parts) part(state);
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey($("key").value);
  say("");
  refresh();
});

const open = (name) => show($(`tab-${name}`));
parts.push(setUpTry(refresh), setUpData(refresh), setUpFinetune(refresh, open), setUpShip(refresh));
show($(`tab-${location.hash.slice(1)}`) ?? tabs[0]);
