#!/usr/bin/env python3
"""Measures a training step of a Simple Attention Network in PyTorch, as `needle bench train` does for ours.

    pip install torch safetensors numpy
    needle bench train --device cuda --compute-dtype bf16 --batch 128 --enc 1024 --dec 512 --examples-per-row 8 \
        --save-weights w.safetensors --json > ours.json
    scripts/bench/torch_step.py --weights w.safetensors --device cuda --compute-dtype bf16 --batch 128 --enc 1024 --dec 512 \
        --examples-per-row 8 --compile

Uses torch.compile, scaled-dot-product attention (or flex attention, if examples share rows), autocast to bf16, fused AdamW, and Muon
with Newton-Schulz batched over matrices of the same shape in bf16. Weights and batch are the same as ours, so `first_loss` must agree,
which scripts/bench/gpu.sh checks.
"""

import argparse
import json
import math
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

SIZES = {
    "needle-26m": dict(vocab=8192, d=512, heads=8, kv=4, enc_layers=12, dec_layers=8),
    "quickstart": dict(vocab=1024, d=192, heads=6, kv=3, enc_layers=4, dec_layers=3),
    "tiny": dict(vocab=512, d=64, heads=4, kv=2, enc_layers=2, dec_layers=2),
}


class Norm(nn.Module):
    """(1 + g) x / rms(x), statistics in f32."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        wide = x.float()
        return ((1 + self.weight) * wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, size):
        super().__init__()
        d, self.heads, self.kv = size["d"], size["heads"], size["kv"]
        self.head_dim = d // self.heads
        width = self.kv * self.head_dim
        self.q_proj, self.out_proj = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)
        self.k_proj, self.v_proj = nn.Linear(d, width, bias=False), nn.Linear(d, width, bias=False)
        self.q_norm, self.k_norm = Norm(self.head_dim), Norm(self.head_dim)

    def forward(self, x, memory, rope, attend):
        b, t, _ = x.shape
        q = self.q_norm(self.q_proj(x).view(b, t, self.heads, self.head_dim))
        k = self.k_norm(self.k_proj(memory).view(b, -1, self.kv, self.head_dim))
        v = self.v_proj(memory).view(b, -1, self.kv, self.head_dim)
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))
        return self.out_proj(attend(q, k, v).transpose(1, 2).reshape(b, t, -1))


def rotate(x, rope):
    """Rotary embedding, which pairs the first half of each head with the second."""
    cos, sin = (r[None, : x.shape[1], None, :].to(x.dtype) for r in rope)
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class EncoderLayer(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.input_layernorm, self.self_attn = Norm(size["d"]), Attention(size)
        self.attn_gate = nn.Parameter(torch.zeros(1))

    def forward(self, x, rope, attend):
        y = self.input_layernorm(x)
        return x + torch.sigmoid(self.attn_gate).to(x.dtype) * self.self_attn(y, y, rope, attend)


class DecoderLayer(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.input_layernorm, self.self_attn = Norm(size["d"]), Attention(size)
        self.encoder_attn_layer_norm, self.encoder_attn = Norm(size["d"]), Attention(size)
        self.self_attn_gate, self.cross_attn_gate = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x, memory, rope, attend, attend_memory):
        y = self.input_layernorm(x)
        x = x + torch.sigmoid(self.self_attn_gate).to(x.dtype) * self.self_attn(y, y, rope, attend)
        y = self.encoder_attn(self.encoder_attn_layer_norm(x), memory, None, attend_memory)
        return x + torch.sigmoid(self.cross_attn_gate).to(x.dtype) * y


class Stack(nn.Module):
    def __init__(self, layer, count, size, norm):
        super().__init__()
        self.layers = nn.ModuleList(layer(size) for _ in range(count))
        setattr(self, norm, Norm(size["d"]))


class San(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = size
        self.embed_tokens = nn.Embedding(size["vocab"], size["d"])
        self.encoder = Stack(EncoderLayer, size["enc_layers"], size, "final_norm")
        self.decoder = Stack(DecoderLayer, size["dec_layers"], size, "norm")
        half = size["d"] // size["heads"] // 2
        angles = torch.arange(4096)[:, None] * (10000.0 ** (-torch.arange(half) / half))[None]
        self.register_buffer("cos", torch.cos(angles), persistent=False)
        self.register_buffer("sin", torch.sin(angles), persistent=False)

    def embed(self, ids, dtype):
        return (self.embed_tokens(ids) * math.sqrt(self.size["d"])).to(dtype)

    def forward(self, batch, attend, dtype):
        """Cross-entropy and z-loss over all targets but padding."""
        rope = (self.cos, self.sin)
        x = self.embed(batch["enc_ids"], dtype)
        for layer in self.encoder.layers:
            x = layer(x, rope, attend["encoder"])
        memory = self.encoder.final_norm(x)
        x = self.embed(batch["dec_input"], dtype)
        for layer in self.decoder.layers:
            x = layer(x, memory, rope, attend["decoder"], attend["cross"])
        logits = F.linear(self.decoder.norm(x), self.embed_tokens.weight).float()
        real = batch["dec_segments"] != 0
        lse = torch.logsumexp(logits, -1)
        nll = lse - logits.gather(-1, batch["dec_target"][..., None])[..., 0]
        count = real.sum()
        return (nll * real).sum() / count + 1e-4 * (lse.square() * real).sum() / count


def attention_functions(batch, kind, device):
    """The attention functions of encoder, decoder and cross-attention, masked by segments."""
    enc, dec = batch["enc_segments"], batch["dec_segments"]
    if kind == "flex":
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        def function(q_seg, k_seg, causal):
            def visible(b, h, q, k):
                same = (q_seg[b, q] == k_seg[b, k]) & (k_seg[b, k] != 0)
                return same & (k <= q) if causal else same

            mask = create_block_mask(visible, q_seg.shape[0], None, q_seg.shape[1], k_seg.shape[1], device=device)
            return lambda q, k, v: flex_attention(q, k, v, block_mask=mask, enable_gqa=True)
    else:
        alone = bool((enc == 1).all() and (dec == 1).all())

        def function(q_seg, k_seg, causal):
            if alone:
                return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
            mask = (q_seg[:, None, :, None] == k_seg[:, None, None, :]) & (k_seg[:, None, None, :] != 0)
            if causal:
                mask = mask & torch.ones(q_seg.shape[1], k_seg.shape[1], dtype=torch.bool, device=device).tril()
            # A padding query attends to everything, so that its softmax is defined.
            mask = mask | ~mask.any(-1, keepdim=True)
            return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)

    return {"encoder": function(enc, enc, False), "decoder": function(dec, dec, True), "cross": function(dec, enc, False)}


def make_batch(size, a):
    """The batch of `needle bench train`: the i-th id is 6 + (i * 7919 + 13) % (vocab - 6)."""
    drawn = 0

    def segments(length):
        real = min(max(round(length * a.filled), a.examples_per_row), length)
        row = [i * a.examples_per_row // real + 1 if i < real else 0 for i in range(length)]
        return torch.tensor([row] * a.batch)

    def ids(seg):
        nonlocal drawn
        i = torch.arange(drawn, drawn + seg.numel())
        drawn += seg.numel()
        return torch.where(seg.flatten() == 0, 0, 6 + (i * 7919 + 13) % (size["vocab"] - 6)).view(seg.shape)

    enc, dec = segments(a.enc), segments(a.dec)
    batch = {"enc_ids": ids(enc), "dec_input": ids(dec), "dec_target": ids(dec), "enc_segments": enc, "dec_segments": dec}
    return {name: tensor.to(a.device) for name, tensor in batch.items()}


def newton_schulz(x, dtype):
    """Muon's orthogonalization of a tensor [matrices, rows, columns]."""
    turned = x.shape[1] > x.shape[2]
    x = x.mT if turned else x
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.mT if turned else x).float()


class Muon:
    """Muon with Nesterov momentum 0.95 and weight decay 0.01, batched over matrices of the same shape."""

    def __init__(self, matrices, lr, dtype):
        self.by_shape, self.lr, self.dtype = {}, lr, dtype
        for matrix in matrices:
            self.by_shape.setdefault(tuple(matrix.shape), []).append(matrix)
        self.momenta = {shape: torch.zeros(len(list_), *shape, device=list_[0].device) for shape, list_ in self.by_shape.items()}

    @torch.no_grad()
    def step(self):
        for shape, matrices in self.by_shape.items():
            gradients = torch.stack([matrix.grad for matrix in matrices])
            momentum = self.momenta[shape].mul_(0.95).add_(gradients)
            updates = newton_schulz(gradients + 0.95 * momentum, self.dtype)
            scale = math.sqrt(max(1.0, shape[0] / shape[1]))
            torch._foreach_mul_(matrices, 1 - self.lr * 0.01)
            torch._foreach_add_(matrices, list(updates.unbind()), alpha=-self.lr * scale)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", choices=SIZES, default="needle-26m")
    p.add_argument("--weights", help="model.safetensors, or a file of --save-weights; random by default")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--compute-dtype", choices=["f32", "bf16"], default="f32")
    p.add_argument("--attention", choices=["sdpa", "flex"], default="sdpa")
    p.add_argument("--compile", action="store_true")
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--enc", type=int, default=256)
    p.add_argument("--dec", type=int, default=64)
    p.add_argument("--examples-per-row", type=int, default=1)
    p.add_argument("--filled", type=float, default=1.0)
    p.add_argument("--steps", type=int, default=5)
    a = p.parse_args()
    size, is_cuda = SIZES[a.model], a.device.startswith("cuda")
    torch.set_float32_matmul_precision("highest")
    model = San(size)
    if a.weights:
        weights = {k.removeprefix("model."): v.float() for k, v in load_file(a.weights).items() if k.startswith("model.")}
        model.load_state_dict(weights)
    model.to(a.device)
    batch = make_batch(size, a)
    attend = attention_functions(batch, a.attention, a.device)
    dtype = torch.bfloat16 if a.compute_dtype == "bf16" else torch.float32
    forward = torch.compile(model) if a.compile else model
    matrices = [q for n, q in model.named_parameters() if n.endswith("_proj.weight")]
    rest = [q for n, q in model.named_parameters() if not n.endswith("_proj.weight")]
    muon = Muon(matrices, 1e-3, torch.bfloat16 if is_cuda else torch.float32)
    if a.compile:
        muon.step = torch.compile(muon.step)
    adamw = torch.optim.AdamW(rest, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.0, fused=is_cuda)
    wait = torch.cuda.synchronize if is_cuda else lambda: None

    def step():
        began = time.perf_counter()
        with torch.autocast(a.device.split(":")[0], dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = forward(batch, attend, dtype)
        loss.backward()
        wait()
        computed = time.perf_counter() - began
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        muon.step()
        adamw.step()
        model.zero_grad(set_to_none=True)
        wait()
        return loss, computed, time.perf_counter() - began

    first = step()[0].item()
    for _ in range(2):
        step()
    timed = sorted((step() for _ in range(a.steps)), key=lambda t: t[2])
    _, computed, whole = timed[len(timed) // 2]
    tokens = a.batch * (a.enc + a.dec)
    print(json.dumps({
        "rows": a.batch, "enc_tokens": a.enc, "dec_tokens": a.dec, "attention": a.attention, "compiled": a.compile,
        "forward_and_backward_seconds": computed, "whole_seconds": whole, "tokens_per_second": tokens / whole,
        "tokens_per_second_without_optimizer": tokens / computed, "first_loss": first,
        "peak_device_mb": torch.cuda.max_memory_allocated() / 1e6 if is_cuda else None, "torch": torch.__version__,
    }))


if __name__ == "__main__":
    main()
