"""Triton kernels over flat tokens. ``starts`` and ``ends`` give, for each token, the first token of its row and the one
after its last, so that no kernel needs a mask, a table of rows or the host."""

from __future__ import annotations

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: N803, SIM108 - compile-time arguments are upper-case by Triton's custom; it compiles no ternary on them
import triton
import triton.language as tl

NEVER = tl.constexpr(-1.0e30)  # a score that weighs nothing, and of which differences are still numbers


# Numbers that vary from batch to batch must not make another binary when they happen to be 1 or a multiple of 16.
@triton.jit(do_not_specialize=["rows", "tokens"])
def embed(
    ids, sources, row_starts, word, position, weight, bias, out, starts, ends, rows, tokens, eps,
    SIZE: tl.constexpr, WIDE: tl.constexpr, POSITIONS: tl.constexpr,
):  # fmt: skip
    """Word and position embeddings through the embedding norm, one token a program; writes starts and ends.

    A row's ids are ``ids[sources[row]]`` and those after it. Tokens past the last row (``row_starts[rows]``) get a row
    of their own each.
    """
    t = tl.program_id(0)
    low = 0
    high = rows
    while high - low > 1:
        middle = (low + high) // 2
        if tl.load(row_starts + middle) <= t:
            low = middle
        else:
            high = middle
    total = tl.load(row_starts + rows)
    inside = t < total
    begin = tl.where(inside, tl.load(row_starts + low), t)
    end = tl.where(inside, tl.load(row_starts + low + 1), t + 1)
    tl.store(starts + t, begin)
    tl.store(ends + t, end)
    column = tl.arange(0, WIDE)
    held = column < SIZE
    source = tl.load(sources + low) + t - begin
    token = tl.where(inside, tl.load(ids + source, mask=inside, other=0), 0).to(tl.int64)
    x = tl.load(word + token * SIZE + column, mask=held, other=0.0).to(tl.float32)
    if POSITIONS:
        x += tl.load(position + (t - begin) * SIZE + column, mask=held, other=0.0).to(tl.float32)
    mean = tl.sum(x, 0) / SIZE
    centred = tl.where(held, x - mean, 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(centred * centred, 0) / SIZE + eps)
    normed = centred * scale * tl.load(weight + column, mask=held, other=0.0)
    normed += tl.load(bias + column, mask=held, other=0.0)
    tl.store(out + t.to(tl.int64) * SIZE + column, normed.to(out.dtype.element_ty), mask=held)


@triton.jit(do_not_specialize=["tokens"])
def add_norm(
    a, x, weight, bias, total, out, tokens, eps,
    SIZE: tl.constexpr, WIDE: tl.constexpr, LINES: tl.constexpr, HAS_BIAS: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    """out = LayerNorm(a + x) in float32, LINES tokens a program; with KEEP the sum itself goes to ``total``."""
    line = tl.program_id(0) * LINES + tl.arange(0, LINES)
    column = tl.arange(0, WIDE)
    held = (line < tokens)[:, None] & (column < SIZE)[None, :]
    at = line.to(tl.int64)[:, None] * SIZE + column[None, :]
    value = tl.load(a + at, mask=held, other=0.0).to(tl.float32) + tl.load(x + at, mask=held, other=0.0).to(tl.float32)
    if KEEP:
        tl.store(total + at, value.to(total.dtype.element_ty), mask=held)
    mean = tl.sum(value, 1) / SIZE
    centred = tl.where(held, value - mean[:, None], 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / SIZE + eps)
    w = tl.load(weight + column, mask=column < SIZE, other=0.0).to(tl.float32)
    normed = centred * scale[:, None] * w[None, :]
    if HAS_BIAS:
        normed += tl.load(bias + column, mask=column < SIZE, other=0.0).to(tl.float32)[None, :]
    tl.store(out + at, normed.to(out.dtype.element_ty), mask=held)


@triton.jit(do_not_specialize=["tokens"])
def attention(
    qkv, starts, ends, by_distance, cos, sin, out, tokens, scale,
    HEADS: tl.constexpr, HEAD: tl.constexpr, WIDE: tl.constexpr, HALF: tl.constexpr, HALF_WIDE: tl.constexpr,
    REACH: tl.constexpr, WINDOW: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Each token over its own row, QUERIES neighbouring tokens of one head a program: flash attention over flat tokens.

    WINDOW > 0: at most that far to either side. REACH > 0: a bias by distance, ``by_distance`` [heads, 2 REACH + 1].
    HALF > 0: rotary positions, ``cos`` and ``sin`` [positions, HALF].
    """
    first = tl.program_id(0) * QUERIES
    head = tl.program_id(1)
    m = first + tl.arange(0, QUERIES)
    real = m < tokens
    begin = tl.load(starts + m, mask=real, other=2147483647)
    end = tl.load(ends + m, mask=real, other=0)
    low = tl.min(begin, 0)
    high = tl.minimum(tl.max(end, 0), tokens)
    if WINDOW > 0:
        low = tl.maximum(low, first - WINDOW)
        high = tl.minimum(high, first + QUERIES + WINDOW)
    line: tl.constexpr = 3 * HEADS * HEAD
    base = qkv + head * HEAD
    d = tl.arange(0, WIDE)
    q_at = m.to(tl.int64)[:, None] * line
    if HALF > 0:
        f = tl.arange(0, HALF_WIDE)
        part = real[:, None] & (f < HALF)[None, :]
        angle = (m - tl.where(real, begin, m))[:, None] * HALF + f[None, :]
        c = tl.load(cos + angle, mask=part, other=0.0)
        s = tl.load(sin + angle, mask=part, other=0.0)
        one = tl.load(base + q_at + f[None, :], mask=part, other=0.0)
        two = tl.load(base + q_at + HALF + f[None, :], mask=part, other=0.0)
        q_one = (one.to(tl.float32) * c - two.to(tl.float32) * s).to(one.dtype)
        q_two = (two.to(tl.float32) * c + one.to(tl.float32) * s).to(one.dtype)
    else:
        q = tl.load(base + q_at + d[None, :], mask=real[:, None] & (d < HEAD)[None, :], other=0.0)
    best = tl.full([QUERIES], NEVER, tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    mixed = tl.zeros([QUERIES, WIDE], tl.float32)
    for at in range(low, high, KEYS):
        n = at + tl.arange(0, KEYS)
        there = n < high
        k_at = n.to(tl.int64) * line
        if HALF > 0:
            part_k = there[:, None] & (f < HALF)[None, :]
            place = n - tl.load(starts + n, mask=there, other=0)
            angle_k = tl.where(there, place, 0)[:, None] * HALF + f[None, :]
            c_k = tl.load(cos + angle_k, mask=part_k, other=0.0)
            s_k = tl.load(sin + angle_k, mask=part_k, other=0.0)
            k_base = base + HEADS * HEAD + k_at[:, None] + f[None, :]
            k_one = tl.load(k_base, mask=part_k, other=0.0)
            k_two = tl.load(k_base + HALF, mask=part_k, other=0.0)
            k_a = (k_one.to(tl.float32) * c_k - k_two.to(tl.float32) * s_k).to(k_one.dtype)
            k_b = (k_two.to(tl.float32) * c_k + k_one.to(tl.float32) * s_k).to(k_one.dtype)
            score = tl.dot(q_one, tl.trans(k_a), input_precision=PRECISION)
            score += tl.dot(q_two, tl.trans(k_b), input_precision=PRECISION)
        else:
            whole = there[:, None] & (d < HEAD)[None, :]
            k = tl.load(base + HEADS * HEAD + k_at[:, None] + d[None, :], mask=whole, other=0.0)
            score = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        score *= scale
        seen = (n[None, :] >= begin[:, None]) & (n[None, :] < end[:, None])
        if WINDOW > 0:
            seen &= (n[None, :] - m[:, None] <= WINDOW) & (m[:, None] - n[None, :] <= WINDOW)
        if REACH > 0:
            shift = head * (2 * REACH + 1) + n[None, :] - m[:, None] + REACH
            score += tl.load(by_distance + shift, mask=seen, other=0.0)
        score = tl.where(seen, score, NEVER)
        better = tl.maximum(best, tl.max(score, 1))
        share = tl.where(seen, tl.exp(score - better[:, None]), 0.0)
        fade = tl.exp(best - better)
        total = total * fade + tl.sum(share, 1)
        v_held = there[:, None] & (d < HEAD)[None, :]
        v = tl.load(base + 2 * HEADS * HEAD + k_at[:, None] + d[None, :], mask=v_held, other=0.0)
        mixed = mixed * fade[:, None] + tl.dot(share.to(v.dtype), v, input_precision=PRECISION)
        best = better
    mixed = mixed / tl.where(total > 0, total, 1.0)[:, None]
    out_at = m.to(tl.int64)[:, None] * (HEADS * HEAD) + head * HEAD + d[None, :]
    tl.store(out + out_at, mixed.to(out.dtype.element_ty), mask=real[:, None] & (d < HEAD)[None, :])


@triton.jit(do_not_specialize=["layers"])
def pool(
    hidden, row_starts, facts, queries, out, layers,
    SIZE: tl.constexpr, WIDE: tl.constexpr, COUNT: tl.constexpr, QUERIES: tl.constexpr, FIRST: tl.constexpr,
    LINES: tl.constexpr,
):  # fmt: skip
    """One row (of those whose depth is ``layers``) and one query a program, online softmax over the row's tokens.

    Without QUERIES the mean, or with FIRST the first token. out: [rows, COUNT, SIZE].
    """
    row = tl.program_id(0)
    query = tl.program_id(1)
    if tl.load(facts + 4 * row + 1) == layers:
        begin = tl.load(row_starts + row)
        end = tl.load(row_starts + row + 1)
        if FIRST:
            end = begin + 1
        column = tl.arange(0, WIDE)
        held = column < SIZE
        if QUERIES:
            q = tl.load(queries + query * SIZE + column, mask=held, other=0.0)
        best = NEVER + 0.0
        total = 0.0
        mixed = tl.zeros([WIDE], tl.float32)
        for at in range(begin, end, LINES):
            t = at + tl.arange(0, LINES)
            there = t < end
            mask = there[:, None] & held[None, :]
            h = tl.load(hidden + t.to(tl.int64)[:, None] * SIZE + column[None, :], mask=mask, other=0.0).to(tl.float32)
            if QUERIES:
                score = tl.where(there, tl.sum(h * q[None, :], 1), NEVER)
                better = tl.maximum(best, tl.max(score, 0))
                share = tl.where(there, tl.exp(score - better), 0.0)
                fade = tl.exp(best - better)
                total = total * fade + tl.sum(share, 0)
                mixed = mixed * fade + tl.sum(h * share[:, None], 0)
                best = better
            else:
                mixed += tl.sum(h, 0)
        if QUERIES:
            mixed = mixed / tl.where(total > 0, total, 1.0)
        else:
            mixed = mixed / tl.maximum(end - begin, 1)
        place = (row.to(tl.int64) * COUNT + query) * SIZE
        tl.store(out + place + column, mixed.to(out.dtype.element_ty), mask=held)


@triton.jit(do_not_specialize=["layers"])
def attend(
    hidden, row_starts, facts, queries, out, layers,
    SIZE: tl.constexpr, WIDE: tl.constexpr, COUNT: tl.constexpr, QUERIES: tl.constexpr, LINES: tl.constexpr,
):  # fmt: skip
    """As pool, with all queries of a row in one program and products in tf32, which holds 16-bit states exactly.

    QUERIES: COUNT rounded up to a product's least size.
    """
    row = tl.program_id(0)
    if tl.load(facts + 4 * row + 1) == layers:
        begin = tl.load(row_starts + row)
        end = tl.load(row_starts + row + 1)
        column = tl.arange(0, WIDE)
        held = column < SIZE
        query = tl.arange(0, QUERIES)
        known = (query < COUNT)[:, None] & held[None, :]
        q = tl.load(queries + query[:, None] * SIZE + column[None, :], mask=known, other=0.0)
        best = tl.full([QUERIES], NEVER, tl.float32)
        total = tl.zeros([QUERIES], tl.float32)
        mixed = tl.zeros([QUERIES, WIDE], tl.float32)
        for at in range(begin, end, LINES):
            t = at + tl.arange(0, LINES)
            there = t < end
            mask = there[:, None] & held[None, :]
            h = tl.load(hidden + t.to(tl.int64)[:, None] * SIZE + column[None, :], mask=mask, other=0.0).to(tl.float32)
            score = tl.dot(q, tl.trans(h), input_precision="tf32")
            score = tl.where(there[None, :], score, NEVER)
            better = tl.maximum(best, tl.max(score, 1))
            share = tl.where(there[None, :], tl.exp(score - better[:, None]), 0.0)
            fade = tl.exp(best - better)
            total = total * fade + tl.sum(share, 1)
            mixed = mixed * fade[:, None] + tl.dot(share, h, input_precision="tf32")
            best = better
        mixed = mixed / tl.where(total > 0, total, 1.0)[:, None]
        place = (row.to(tl.int64) * COUNT + query)[:, None] * SIZE + column[None, :]
        tl.store(out + place, mixed.to(out.dtype.element_ty), mask=known)


@triton.jit(do_not_specialize=["layers"])
def finish(
    vectors, head_bias, facts, order, out, layers,
    SIZE: tl.constexpr, WIDE: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """A pooled row (of those whose depth is ``layers``) to its place in the answer, cut and L2-normalised.

    facts: [rows, 4], a row's second the depth, then the dim and whether to normalise. out: [rows in the batch, SIZE],
    elements past the dim untouched; all NaN where one is NaN or infinity.
    """
    row = tl.program_id(0)
    if tl.load(facts + 4 * row + 1) == layers:
        dim = tl.load(facts + 4 * row + 2)
        column = tl.arange(0, WIDE)
        held = column < dim
        x = tl.load(vectors + row.to(tl.int64) * SIZE + column, mask=held, other=0.0).to(tl.float32)
        if HAS_BIAS:
            x += tl.load(head_bias + column, mask=held, other=0.0)
        x += tl.sum(x * 0.0, 0)
        norm = tl.maximum(tl.sqrt(tl.sum(x * x, 0)), 1e-12)
        x = tl.where(tl.load(facts + 4 * row + 3) != 0, x / norm, x)
        place = tl.load(order + row).to(tl.int64) * SIZE
        tl.store(out + place + column, x, mask=held)
