// Small helpers. Text from outside is only ever set as text, never as HTML.

export const $ = (id) => document.getElementById(id);

// An element with attributes and children; strings become text.
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false && value !== undefined) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

export function say(text, isBad = false) {
  $("message").textContent = text;
  $("message").classList.toggle("bad", isBad);
}

// Fills a select with `names`, and keeps the selected one if it is still among them.
export function offer(select, names, labels = names) {
  const chosen = select.value;
  select.replaceChildren(...names.map((name, i) => element("option", { value: name }, labels[i])));
  if (names.includes(chosen)) select.value = chosen;
}

// Runs `work`, and shows the message of an error.
export async function trying(work) {
  try {
    say("");
    return await work();
  } catch (error) {
    say(error.message, true);
  }
}

export const percent = (value) => (typeof value === "number" ? `${(100 * value).toFixed(1)} %` : "–");
export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(2)} MB`;
