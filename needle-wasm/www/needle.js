// Runs a model in a browser or in Node.js: const needle = await Needle.load(wasm, weights, vocab); needle.call(query, tools).

/** The bytes of a URL (which is fetched), of a Response, or of a buffer. */
async function bytes(source) {
  if (typeof source === "string" || source instanceof URL) source = await fetch(source);
  if (typeof Response !== "undefined" && source instanceof Response) {
    if (!source.ok) throw new Error(`${source.url}: ${source.status} ${source.statusText}`);
    source = await source.arrayBuffer();
  }
  return new Uint8Array(source);
}

export class Needle {
  #exports;
  #model;
  #onPiece = () => {};

  /** Loads a model. The arguments are needle_wasm.wasm, needle.safetensors and vocab.txt, each as a URL, a Response or bytes. */
  static async load(wasm, weights, vocab) {
    const [code, ...files] = await Promise.all([wasm, weights, vocab].map(bytes));
    const needle = new Needle();
    const piece = (at, length) => needle.#onPiece(needle.#text(at, length));
    const { instance } = await WebAssembly.instantiate(code, { needle: { piece } });
    needle.#exports = instance.exports;
    needle.#model = needle.#reply("needle_load", ...files);
    return needle;
  }

  /** Answers the query with calls of the tools (a list, or its JSON). onPiece receives the JSON piece by piece as it is written. */
  call(query, tools, { onPiece = () => {}, maxTokens = 0 } = {}) {
    this.#onPiece = onPiece;
    return this.#ask("needle_call", query, tools, maxTokens);
  }

  /** Ranks the tools by similarity to the query: a list of [index, cosine], best first. */
  rank(query, tools) {
    return this.#ask("needle_rank", query, tools);
  }

  /** Frees the model. */
  free() {
    this.#exports.needle_free(this.#model);
  }

  #ask(name, query, tools, ...more) {
    const text = typeof tools === "string" ? tools : JSON.stringify(tools);
    const encoder = new TextEncoder();
    return this.#reply(name, this.#model, encoder.encode(query), encoder.encode(text), ...more);
  }

  /** Calls a function of the module. Numbers are passed as they are; bytes are copied and passed as address and length. */
  #reply(name, ...args) {
    const { memory, needle_alloc, [name]: call } = this.#exports;
    const given = args.flatMap((arg) => {
      if (typeof arg === "number") return [arg];
      const at = needle_alloc(arg.length);
      new Uint8Array(memory.buffer).set(arg, at);
      return [at, arg.length];
    });
    const reply = call(...given);
    // Read only after the call: when memory grows, memory.buffer is replaced.
    const [at, length, isGood] = new Uint32Array(memory.buffer, reply, 3);
    const text = this.#text(at, length);
    if (!isGood) throw new Error(text);
    return JSON.parse(text);
  }

  #text(at, length) {
    return new TextDecoder().decode(new Uint8Array(this.#exports.memory.buffer, at, length));
  }
}
