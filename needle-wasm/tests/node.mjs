// Asks a model in Node.js: node node.mjs WASM MODEL QUERY TOOLS_JSON MAX_TOKENS. Checks answers and errors, and prints the answer's text.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { Needle } from "../www/needle.js";

const [wasm, model, query, tools, maxTokens] = process.argv.slice(2);
const files = await Promise.all([wasm, `${model}/needle.safetensors`, `${model}/vocab.txt`].map((path) => readFile(path)));
const needle = await Needle.load(...files);

const pieces = [];
const answer = needle.call(query, tools, { maxTokens: Number(maxTokens), onPiece: (piece) => pieces.push(piece) });
assert.deepEqual(needle.call(query, JSON.parse(tools), { maxTokens: Number(maxTokens) }), answer);
assert(pieces.length > 1);
if (!answer.isComplete) assert.deepEqual(answer.calls, []);
const ranked = needle.rank(query, tools);
assert.equal(ranked.length, JSON.parse(tools).length);
assert(Math.abs(ranked[0][1]) <= 1.001);

assert.throws(() => needle.call(query, "[{]"), /tools/);
assert.throws(() => needle.call(" ", tools), /empty/);
await assert.rejects(Needle.load(files[0], new Uint8Array(100), files[2]), /needle.safetensors/);
await assert.rejects(Needle.load(files[0], files[1], new Uint8Array([255])), /utf-8/);
assert.deepEqual(needle.call(query, tools, { maxTokens: Number(maxTokens) }), answer);
needle.free();
console.log(answer.text);
