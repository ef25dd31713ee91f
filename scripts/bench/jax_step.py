#!/usr/bin/env python3
"""Compares the gradient step of a Simple Attention Network in JAX (jit, float32, no optimizer) with `needle bench train`.

    pip install jax
    scripts/bench/jax_step.py --batch 4 --enc 256 --dec 64

Sizes and operations are the same: grouped-query attention with norms on Q and K and half-split rotary embedding, gated residuals,
tied embedding, cross-entropy and z-loss over 8192 logits. Layers are stacked and scanned, as the original stacks them.
"""

import argparse
import json
import math
import subprocess
import time

import jax
import jax.numpy as jnp

SIZES = {
    "needle-26m": dict(vocab=8192, d=512, heads=8, kv=4, enc_layers=12, dec_layers=8),
    "quickstart": dict(vocab=1024, d=192, heads=6, kv=3, enc_layers=4, dec_layers=3),
}


def norm(x, g):
    return (1 + g) * x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def rope(x):
    *_, length, dim = x.shape
    angles = jnp.arange(length)[:, None] * (10000.0 ** (-jnp.arange(0, dim, 2) / dim))[None]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def attention(p, x, memory, heads, kv, causal, rotary):
    b, t, d = x.shape
    s, hd = memory.shape[1], d // heads
    split = lambda y, n: y.reshape(b, -1, n, hd).transpose(0, 2, 1, 3)
    q, k, v = split(x @ p["q"], heads), split(memory @ p["k"], kv), split(memory @ p["v"], kv)
    q, k = norm(q, p["q_norm"]), norm(k, p["k_norm"])
    if rotary:
        q, k = rope(q), rope(k)
    q = q.reshape(b, kv, heads // kv, t, hd)
    scores = jnp.einsum("bkgth,bksh->bkgts", q, k) / math.sqrt(hd)
    if causal:
        scores = jnp.where(jnp.tril(jnp.ones((t, s), bool)), scores, -1e30)
    out = jnp.einsum("bkgts,bksh->bkgth", jax.nn.softmax(scores, -1), v)
    return out.reshape(b, heads, t, hd).transpose(0, 2, 1, 3).reshape(b, t, d) @ p["o"]


def init(key, size):
    d, hd = size["d"], size["d"] // size["heads"]
    kv = size["kv"] * hd

    def block(key, layers):
        ks = jax.random.split(key, 4)
        matrix = lambda k, a, b: 0.02 * jax.random.normal(k, (layers, a, b))
        return dict(q=matrix(ks[0], d, d), k=matrix(ks[1], d, kv), v=matrix(ks[2], d, kv), o=matrix(ks[3], d, d),
                    q_norm=jnp.zeros((layers, hd)), k_norm=jnp.zeros((layers, hd)), norm=jnp.zeros((layers, d)), gate=jnp.zeros(layers))

    ks = jax.random.split(key, 4)
    return dict(embed=0.02 * jax.random.normal(ks[0], (size["vocab"], d)), enc=block(ks[1], size["enc_layers"]), dec=block(ks[2], size["dec_layers"]),
                cross=block(ks[3], size["dec_layers"]), enc_norm=jnp.zeros(d), dec_norm=jnp.zeros(d))


def loss_of(params, src, tgt_in, tgt_out, size):
    heads, kv, scale = size["heads"], size["kv"], math.sqrt(size["d"])
    gated = lambda p, x, memory, causal, rotary: x + jax.nn.sigmoid(p["gate"]) * attention(p, norm(x, p["norm"]), memory, heads, kv, causal, rotary)

    def enc_layer(x, p):
        y = norm(x, p["norm"])
        return x + jax.nn.sigmoid(p["gate"]) * attention(p, y, y, heads, kv, False, True), None

    x, _ = jax.lax.scan(enc_layer, params["embed"][src] * scale, params["enc"])
    memory = norm(x, params["enc_norm"])

    def dec_layer(x, p):
        own, cross = p
        y = norm(x, own["norm"])
        x = x + jax.nn.sigmoid(own["gate"]) * attention(own, y, y, heads, kv, True, True)
        return gated(cross, x, memory, False, False), None

    x, _ = jax.lax.scan(dec_layer, params["embed"][tgt_in] * scale, (params["dec"], params["cross"]))
    logits = norm(x, params["dec_norm"]) @ params["embed"].T
    lse = jax.nn.logsumexp(logits, -1)
    nll = lse - jnp.take_along_axis(logits, tgt_out[..., None], -1)[..., 0]
    return nll.mean() + 1e-4 * (lse * lse).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="needle-26m", choices=SIZES)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--enc", type=int, default=256)
    parser.add_argument("--dec", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--needle", default="target/release/needle", help="the needle command, run before and after")
    args = parser.parse_args()
    size = SIZES[args.model]

    def ours():
        command = [args.needle, "bench", "train", "--model", args.model, "--batch", args.batch, "--enc", args.enc, "--dec", args.dec,
                   "--steps", args.steps, "--json"]
        return json.loads(subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True).stdout)

    before = ours()
    key = jax.random.PRNGKey(0)
    params = init(key, size)
    ids = lambda k, n: jax.random.randint(jax.random.PRNGKey(k), (args.batch, n), 6, size["vocab"])
    batch = ids(1, args.enc), ids(2, args.dec), ids(3, args.dec)
    step = jax.jit(jax.value_and_grad(lambda p: loss_of(p, *batch, size)))
    jax.block_until_ready(step(params))
    seconds = []
    for _ in range(args.steps):
        begin = time.perf_counter()
        loss, _ = jax.block_until_ready(step(params))
        seconds.append(time.perf_counter() - begin)
    jax_rate = args.batch * (args.enc + args.dec) / sorted(seconds)[len(seconds) // 2]
    after = ours()
    print(f"JAX {jax.__version__}, gradient step alone   {jax_rate:8.0f} tokens/s   (loss {float(loss):.3f})")
    for name, run in (("before", before), ("after", after)):
        print(f"needle, {name}: whole step {run['tokens_per_second']:8.0f} tokens/s, {run['tokens_per_second'] / jax_rate:.2f}x; gradient step alone "
              f"{run['tokens_per_second_without_optimizer']:8.0f}, {run['tokens_per_second_without_optimizer'] / jax_rate:.2f}x (loss {run['loss']:.3f})")


if __name__ == "__main__":
    main()
