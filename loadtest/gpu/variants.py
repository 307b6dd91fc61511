"""Parts of a GPU's block in more than one way, timed beside each other: what decides how the engine does them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
import triton

from strata.app.engine.backends.cuda import kernels
from strata.app.engine.backends.cuda.buffers import Buffers, Staging, allocate
from strata.app.engine.backends.cuda.ops import Attention, Embedding
from strata.app.engine.flat import FlatBatch, flatten
from strata.loadtest.gpu.cases import Corpus, batch
from strata.loadtest.gpu.product_gelu import product_gelu
from strata.model_store.bundle.bundle import Bundle

# Rows, columns and depth of a tile of the product, warps, stages.
_TILES = ((128, 128, 64, 8, 3), (128, 256, 64, 8, 3), (128, 128, 64, 4, 4), (64, 128, 64, 4, 4), (128, 128, 32, 8, 4))


def micros(run: Callable[[], object]) -> float:
    """Median microseconds on the device."""
    return 1e3 * float(triton.testing.do_bench(run, warmup=10, rep=40, return_mode="median"))


def compare(bundle: Bundle, corpus: Corpus, device: torch.device) -> None:
    """Print microseconds of every way, for short texts and for long ones."""
    layers, dim = bundle.manifest.architecture.layers, bundle.manifest.full_dim
    for name, texts in {"short": corpus.short, "long": corpus.long, "64 short": corpus.short[:64]}.items():
        flat = flatten(batch(texts, [layers], dim))
        tokens = flat.layout.tokens
        print(f"-- {name}: {len(texts)} texts, {tokens} tokens", flush=True)
        for part in (_products, _activations, _norms, _pools, _attentions):
            try:
                part(bundle, flat, device)
            except Exception as error:  # one way that does not run here
                print(f"  {part.__name__}: {type(error).__name__}: {str(error)[:300]}", flush=True)


def _say(name: str, run: Callable[[], object]) -> None:
    try:
        print(f"  {name}: {micros(run):.1f} us", flush=True)
    except Exception as error:  # one way that does not run here
        print(f"  {name}: {type(error).__name__}: {str(error)[:200]}", flush=True)


def _random(*shape: int, device: torch.device) -> torch.Tensor:
    return torch.randn(shape, device=device, dtype=torch.bfloat16)


def _products(bundle: Bundle, flat: FlatBatch, device: torch.device) -> None:
    a = bundle.manifest.architecture
    tokens = flat.layout.tokens + -flat.layout.tokens % 128
    h, f = a.hidden_size, a.intermediate_size
    for name, (wide, narrow) in {"qkv": (h, 3 * h), "out": (h, h), "up": (h, f), "down": (f, h)}.items():
        x, w, b = (_random(*s, device=device) for s in ((tokens, wide), (narrow, wide), (narrow,)))
        took = micros(partial(torch.addmm, b, x, w.t()))
        plain = micros(partial(torch.mm, x, w.t()))
        rate = 2 * tokens * wide * narrow / took / 1e6
        print(f"  {name} product with bias {took:.1f} us ({rate:.0f} TFLOP/s), without {plain:.1f}", flush=True)


def _activations(bundle: Bundle, flat: FlatBatch, device: torch.device) -> None:
    a = bundle.manifest.architecture
    tokens = flat.layout.tokens + -flat.layout.tokens % 128
    shapes = ((tokens, a.hidden_size), (a.intermediate_size, a.hidden_size), (a.intermediate_size,))
    x, w, b = (_random(*s, device=device) for s in shapes)
    _say("up and gelu apart", lambda: F.gelu(torch.addmm(b, x, w.t())))
    _say("up and tanh gelu in one", lambda: torch._addmm_activation(b, x, w.t(), use_gelu=True))
    for m, n, k, warps, stages in (
        (128, 128, 64, 8, 3),
        (128, 256, 64, 8, 3),
        (128, 128, 64, 4, 4),
        (64, 128, 64, 4, 4),
    ):
        out = torch.empty((tokens, a.intermediate_size), device=device, dtype=torch.bfloat16)

        def run(
            m: int = m, n: int = n, k: int = k, warps: int = warps, stages: int = stages, out: torch.Tensor = out
        ) -> None:
            grid = (triton.cdiv(tokens, m) * triton.cdiv(a.intermediate_size, n),)
            product_gelu[grid](
                x, w, b, out, tokens, OUT=a.intermediate_size, IN=a.hidden_size, ROWS=m, COLUMNS=n, DEEP=k,
                num_warps=warps, num_stages=stages,
            )  # fmt: skip

        _say(f"up and exact gelu in one Triton kernel, {m} x {n} x {k}, {warps} warps, {stages} stages", run)


def _norms(bundle: Bundle, flat: FlatBatch, device: torch.device) -> None:
    h = bundle.manifest.architecture.hidden_size
    tokens = flat.layout.tokens + -flat.layout.tokens % 128
    x, y = (_random(tokens, h, device=device) for _ in range(2))
    w, b = (_random(h, device=device) for _ in range(2))
    _say("add and norm apart", lambda: F.layer_norm(x + y, (h,), w, b, 1e-12))
    out = torch.empty_like(x)
    wide = triton.next_power_of_2(h)
    for lines, warps in product((1, 2, 4, 8), (1, 2, 4, 8)):

        def run(lines: int = lines, warps: int = warps) -> None:
            kernels.add_norm[(triton.cdiv(tokens, lines),)](
                x, y, w, b, out, out, tokens, 1e-12,
                SIZE=h, WIDE=wide, LINES=lines, HAS_BIAS=True, KEEP=False, num_warps=warps,
            )  # fmt: skip

        _say(f"add and norm in one, {lines} lines, {warps} warps", run)


def _pools(bundle: Bundle, flat: FlatBatch, device: torch.device) -> None:
    h, rows = bundle.manifest.architecture.hidden_size, flat.layout.rows
    buffers, layers = _filled(bundle, flat, device), bundle.manifest.architecture.layers
    wide = triton.next_power_of_2(h)
    for count, lines, warps in product((0, 1, 3), (8, 16, 32), (2, 4)):  # no query: the mean
        q = torch.randn((max(count, 1), h), device=device)
        out = torch.empty((rows, len(q) * h), device=device, dtype=torch.bfloat16)
        where = (buffers.hidden, buffers.row_starts, buffers.facts, q, out, layers)

        def one(where: tuple[object, ...] = where, n: int = count, lines: int = lines, warps: int = warps) -> None:
            kernels.pool[(rows, max(n, 1))](
                *where, SIZE=h, WIDE=wide, COUNT=max(n, 1), QUERIES=n > 0, FIRST=False, LINES=lines, num_warps=warps
            )

        _say(f"pool, {count} queries one by one, {lines} lines, {warps} warps", one)
        if count > 1 and lines >= 16:

            def all_at_once(where: tuple[object, ...] = where, lines: int = lines, warps: int = warps) -> None:
                kernels.attend[(rows,)](*where, SIZE=h, WIDE=wide, COUNT=3, QUERIES=16, LINES=lines, num_warps=warps)

            _say(f"pool, {count} queries at once, {lines} lines, {warps} warps", all_at_once)


def _attentions(bundle: Bundle, flat: FlatBatch, device: torch.device) -> None:
    a = bundle.manifest.architecture
    buffers = _filled(bundle, flat, device)
    qkv = _random(buffers.places, 3 * a.hidden_size, device=device)
    attention = Attention(bundle, dtype=torch.bfloat16, device=device)
    for (queries, keys), warps in product(((16, 16), (32, 32), (64, 32), (64, 64), (128, 32), (128, 64)), (2, 4, 8)):
        attention.blocks, attention.warps = (queries, keys), warps
        _say(f"attention, {queries} queries, {keys} keys, {warps} warps", lambda: attention(qkv, buffers, 0))
    heads = qkv.view(-1, 3, a.attention_heads, a.head_size)[: flat.layout.tokens]
    starts = torch.from_numpy(flat.layout.starts).to(device)
    longest = int(flat.layout.lengths.max())

    def varlen() -> object:
        from torch.nn.attention.varlen import varlen_attn

        q, k, v = heads.unbind(1)
        return varlen_attn(q, k, v, starts, starts, longest, longest)

    _say("torch's varlen_attn", varlen)


def _filled(bundle: Bundle, flat: FlatBatch, device: torch.device) -> Buffers:
    m = bundle.manifest
    places = flat.layout.tokens + -flat.layout.tokens % 128
    made = allocate(
        flat.layout.rows,
        places,
        hidden=m.architecture.hidden_size,
        full_dim=m.full_dim,
        dtype=torch.bfloat16,
        device=device,
    )
    Staging(device, 0).send(flat, made)
    Embedding(bundle, dtype=torch.bfloat16, device=device)(made, places)
    return made
