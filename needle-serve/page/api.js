// The server's API. Errors have the server's message, its status, and the field of the request that they are about.

let key = sessionStorage.getItem("needle-key");

export function setKey(value) {
  key = value;
  sessionStorage.setItem("needle-key", value);
}

const headers = () => (key ? { Authorization: `Bearer ${key}` } : {});

async function checked(response) {
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  const failure = new Error(error?.message ?? `the server answered ${response.status}`);
  throw Object.assign(failure, { status: response.status, param: error?.param });
}

async function send(path, body) {
  const options = { headers: headers() };
  if (body !== undefined) {
    options.method = "POST";
    options.body = typeof body === "string" || body instanceof Blob ? body : JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("cannot reach the server");
  }
  return checked(response);
}

export const api = async (path, body) => (await send(`api/${path}`, body)).json();
export const openai = async (path, body) => (await send(`v1/${path}`, body)).json();

// Calls `on(event, data)` with each event of a stream.
export async function stream(path, body, on) {
  const reader = (await send(`api/${path}`, body)).body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const line = (name) => block.split("\n").find((l) => l.startsWith(name))?.slice(name.length);
      const data = line("data: ");
      if (data) on(line("event: "), JSON.parse(data));
    }
  }
}

// A download goes through fetch, because a plain link would not send the key.
export async function download(path, name) {
  const blob = await (await send(`api/${path}`)).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
