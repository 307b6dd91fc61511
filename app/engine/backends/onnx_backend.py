"""The onnxruntime backend: CPU in fp32, or int8 with one scale a token; one session a block, and no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from strata.app.engine.attention import is_local, rotary_table
from strata.app.engine.backends.bins import Pack, attention_bias, pack_rows
from strata.app.engine.cpu import byte_steps
from strata.app.engine.encoder import Backend
from strata.app.engine.exits import exit_form, finish
from strata.app.engine.flat import FlatBatch, Index, Int32, Layout, layout_of
from strata.app.engine.weights import (
    Array,
    block_parts,
    embedding_parts,
    final_norm,
    head_parts,
    relative_bias,
    word_table,
)
from strata.model_store.bundle.bundle import Bundle
from strata.model_store.bundle.graph_names import ACTIVATION_REACH, EXACT_PARTS, FLOAT, INT8, block_graph_name

THREADS_SURVIVE_FORK = False  # a session's threads are started with it

_PART_TOKENS = 128  # of rows that run together: larger parts leave the second-level cache and run at half the speed
_BIN_WIDTH = 64  # places that short rows share in attention


@dataclass(slots=True)
class _Part:
    """Some rows in bins of their own."""

    layout: Layout
    pack: Pack
    hidden: Array  # [bins, width, hidden]
    feeds: dict[bool, dict[str, npt.NDArray[Any]]]  # the graph's other inputs, by local attention


@dataclass(slots=True)
class _State:
    flat: FlatBatch
    parts: list[_Part]  # the rows still in, in the order of the flat batch
    pooled: list[Array]  # vectors of the rows that left, [rows, full_dim] at each exit


class OnnxBackend(Backend):
    """Weightless graphs from the bundle, with weights given to each session from the mapped safetensors."""

    by_length = True

    def __init__(self, bundle: Bundle, *, dtype: str, threads: int) -> None:
        self.a = bundle.manifest.architecture
        self._manifest = bundle.manifest
        self._word = word_table(bundle)
        self._embedding = embedding_parts(bundle)
        self._final_norm = final_norm(bundle)
        self._heads = head_parts(bundle)
        self._by_distance = relative_bias(bundle)
        kind = INT8 if dtype == "int8" else FLOAT
        steps = byte_steps()
        self._sessions = []
        for index in range(self.a.layers):
            graph = bundle.graph(block_graph_name(self.a, index, kind))
            parts = dict(_int8_parts(bundle, index, steps) if kind == INT8 else _float_parts(bundle, index))
            self._sessions.append(_session(graph, parts, threads))
        self._rotary = {
            local: rotary_table(self.a.rotary, self.a.head_size, bundle.manifest.max_tokens, local=local)
            for local in (False, True)
            if self.a.rotary is not None
        }

    def embed(self, flat: FlatBatch) -> _State:
        """Word (and learned position) embeddings through the embedding norm, in parts that run fastest."""
        hidden = self._word[flat.ids].astype(np.float32)
        if "position" in self._embedding:
            hidden += self._embedding["position"][flat.layout.positions]
        hidden = _layer_norm(hidden, self._embedding["norm.weight"], self._embedding["norm.bias"], self.a.norm_eps)
        parts, begin = [], 0
        starts = flat.layout.starts
        while begin < flat.layout.rows:
            end = max(int(np.searchsorted(starts, starts[begin] + _PART_TOKENS, side="right")) - 1, begin + 1)
            layout = layout_of(flat.layout.lengths[begin:end])
            parts.append(self._part(hidden[starts[begin] : starts[end]], layout))
            begin = end
        return _State(flat, parts, [])

    def _part(self, hidden: Array, layout: Layout) -> _Part:
        """Flat tokens into bins. hidden: [tokens, hidden]."""
        pack, rotary = pack_rows(layout, _BIN_WIDTH), self.a.rotary
        feeds: dict[bool, dict[str, npt.NDArray[Any]]] = {
            False: {"bias": _or_none(attention_bias(pack.owners, by_distance=self._by_distance), pack)}
        }
        if rotary is not None:
            feeds[True] = {"bias": _or_none(attention_bias(pack.owners, window=rotary.local_window), pack)}
            positions = pack.spread(layout.positions.astype(np.int64), 0).reshape(pack.bins, pack.width)
            for local, feed in feeds.items():
                feed["positions"] = positions
                feed["cos"], feed["sin"] = self._rotary[local]
        return _Part(layout, pack, pack.spread(hidden, 0).reshape(pack.bins, pack.width, -1), feeds)

    def blocks(self, first: int, last: int, state: _State) -> _State:
        """Blocks one by one, each over all parts."""
        for index in range(first, last):
            local = is_local(self.a.rotary, index)
            for part in state.parts:
                part.hidden = self._sessions[index].run(None, {"x": part.hidden, **part.feeds[local]})[0]
        return state

    def leave(self, state: _State, begin: int, layers: int) -> _State:
        state.pooled.append(self.look(state, begin, layers))
        kept = []
        for part in state.parts:
            if begin >= part.layout.rows:
                kept.append(part)
            elif begin > 0:  # what stays of this part goes into bins of its own
                layout = part.layout.first(begin)
                kept.append(self._part(_flat(part)[: layout.tokens], layout))
            begin -= part.layout.rows
        state.parts = kept
        return state

    def answer(self, state: _State) -> Array:
        flat = state.flat
        vectors = np.concatenate(state.pooled[::-1])  # the last to leave are the first rows
        finish(vectors, flat.dims, flat.normalize)
        return vectors[np.argsort(flat.order)]

    def look(self, state: _State, begin: int, layers: int) -> Array:
        vectors = []
        for part in state.parts:
            skip = min(begin, part.layout.rows)
            begin -= skip
            if skip < part.layout.rows:
                starts = part.layout.starts[skip:]
                vectors.append(self._pool(_flat(part)[starts[0] :], starts - starts[0], layers))
        return np.concatenate(vectors)

    def _pool(self, hidden: Array, starts: Int32, layers: int) -> Array:
        """hidden [tokens, hidden], starts [rows + 1] -> [rows, full_dim]."""
        form = exit_form(self._manifest, layers)
        if form.final_norm and self._final_norm is not None:
            hidden = _layer_norm(hidden, self._final_norm, np.float32(0), self.a.norm_eps)
        head = self._heads.get(layers)
        if form.pooling == "queries" and head:
            vectors: Array = np.stack([_attended(row, head["queries"]) for row in np.split(hidden, starts[1:-1])])
        elif form.pooling == "cls":
            vectors = hidden[starts[:-1]]
        else:
            vectors = np.add.reduceat(hidden, starts[:-1])
            vectors /= np.diff(starts)[:, None]
        return vectors @ head["weight"].T + head["bias"] if head else vectors

    def take(self, state: _State, rows: Index) -> _State:
        kept, begin = [], 0
        for part in state.parts:
            mine = rows[(rows >= begin) & (rows < begin + part.layout.rows)] - begin
            begin += part.layout.rows
            if len(mine) == part.layout.rows:
                kept.append(part)
            elif len(mine):
                layout, tokens = part.layout.take(mine)
                kept.append(self._part(_flat(part)[tokens], layout))
        state.parts = kept
        return state

    def sizes(self, most: int) -> list[int]:
        return []

    def healthy(self) -> bool:
        return True

    def padding(self, state: _State) -> int:
        return sum(part.pack.padding for part in state.parts)


def _flat(part: _Part) -> Array:
    """Hidden states of a part's tokens, [tokens, hidden]."""
    return part.hidden.reshape(part.pack.places, -1)[part.pack.place]


def _attended(row: Array, queries: Array) -> Array:
    """Each query's mean of a row's tokens, weighted by the softmax of their products with it: [queries * hidden]."""
    scores = queries @ row.T
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    means: Array = shares @ row / shares.sum(axis=-1, keepdims=True)
    return means.reshape(-1)


def _or_none(bias: Array | None, pack: Pack) -> Array:
    # The graph always takes a bias: a mask of nothing where none is needed.
    return np.zeros((1, 1, pack.width, pack.width), np.float32) if bias is None else bias


def _layer_norm(x: Array, weight: Array, bias: Array | np.float32, eps: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + np.float32(eps))
    normed: Array = centred / scale * weight + bias
    return normed


def _session(graph: bytes, parts: dict[str, npt.NDArray[Any]], threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # an arena per block would keep its largest batch for ever
    options.enable_mem_pattern = False  # patterns are kept per shape, and here every shape is new
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    values = [ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)) for array in parts.values()]
    options.add_external_initializers(list(parts), values)
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _float_parts(bundle: Bundle, index: int) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Weights by their names in the graph: matrices input rows first, query, key and value (up and gate) apart."""
    for name, array in block_parts(bundle, index).items():
        if array.ndim == 1:
            yield name, array
        elif name == "qkv.weight":
            for part, piece in zip("qkv", np.split(array, 3), strict=True):
                yield f"{part}.weight", piece.T
        elif name == "up.weight" and bundle.manifest.architecture.pre_norm:
            for part, piece in zip(("up", "gate"), np.split(array, 2), strict=True):
                yield f"{part}.weight", piece.T
        else:
            yield name, array.T


def _int8_parts(bundle: Bundle, index: int, steps: int) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """As _float_parts, matrices as int8 codes with a scale per output column."""
    a = bundle.manifest.architecture
    parts = dict(_float_parts(bundle, index))
    for name, array in parts.items():
        if array.ndim == 1:
            continue
        part = name.removesuffix(".weight")
        if part in EXACT_PARTS:
            yield name, array
            continue
        scale = (np.maximum(np.abs(array).max(axis=0), 1e-12) / steps).astype(np.float32)
        codes = np.rint(array / scale).astype(np.int8)
        if part == "down" and not a.pre_norm:  # its input counts up from the activation's least value
            lift = ACTIVATION_REACH[a.activation] * codes.sum(axis=0, dtype=np.int64) * scale
            parts["down.bias"] = parts["down.bias"] - lift.astype(np.float32)
        yield f"{part}.codes", codes
        yield f"{part}.scale", scale
    yield from ((name, array) for name, array in parts.items() if array.ndim == 1)


def build(bundle: Bundle, *, dtype: str, device: str, threads: int) -> OnnxBackend:
    """The backend for a dtype by name ("float32", "int8"). Raises ValueError for any device but the CPU."""
    if device != "cpu":
        raise ValueError(f"the onnxruntime backend runs on cpu, not on {device}")
    return OnnxBackend(bundle, dtype=dtype, threads=threads)


def set_threads(threads: int) -> None:
    """Nothing to do: an onnxruntime session has its threads from its making."""
