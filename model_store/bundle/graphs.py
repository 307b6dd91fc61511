"""Weightless ONNX graphs of one encoder block: the operations alone, fed from the bundle's safetensors at load.

Every block of an encoder is the same graph with other weights, so a bundle carries one or two small files whatever
the number of layers and exits. Weights are named as external initializers, so no graph file holds a number.

Inputs: ``x`` [bins, width, hidden]; ``bias`` [bins or 1, heads or 1, width, width], added to the attention scores;
with rotary positions also ``positions`` [bins, width] and ``cos``, ``sin`` [length, head_size / 2]. Output: ``y``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from strata.model_store.bundle.families import block_tensors
from strata.model_store.bundle.graph_names import ACTIVATION_REACH, EXACT_PARTS, FLOAT, INT8, block_graph_name
from strata.model_store.bundle.manifest import Architecture

_CONTRIB = "com.microsoft"
_OPSET, _IR = 17, 8
_ACTIVE = ".active"  # ends the names of activations' outputs


def write_graphs(folder: Path, a: Architecture) -> None:
    """Write the graphs of an encoder below ``folder``/onnx."""
    target = folder / "onnx"
    target.mkdir(exist_ok=True)
    for index in range(min(a.layers, 2)):
        for kind in (FLOAT, INT8):
            graph = _Block(a, index, kind).model()
            (target / f"{block_graph_name(a, index, kind)}.onnx").write_bytes(graph.SerializeToString())


class _Block:
    """Builds the graph of one block, node by node."""

    def __init__(self, a: Architecture, index: int, kind: str) -> None:
        self.a = a
        self.int8 = kind == INT8
        self.has_norm1 = "norm1.weight" in block_tensors(a, index)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._quantized: dict[str, tuple[str, str, str]] = {}
        self._fresh = self._numbers()

    def model(self) -> onnx.ModelProto:
        a = self.a
        inputs = [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["bins", "width", a.hidden_size]),
            helper.make_tensor_value_info("bias", TensorProto.FLOAT, ["bias_bins", "bias_heads", "width", "width"]),
        ]
        if a.rotary:
            inputs.append(helper.make_tensor_value_info("positions", TensorProto.INT64, ["bins", "width"]))
            table: list[str | int | None] = ["length", a.head_size // 2]
            inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, table) for name in ("cos", "sin")]
        if a.pre_norm:
            self._pre_norm()
        else:
            self._post_norm()
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["bins", "width", a.hidden_size])
        graph = helper.make_graph(self.nodes, "block", inputs, [output], self.initializers)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR, producer_name="strata")

    def _post_norm(self) -> None:
        a, h = self.a, self.a.hidden_size
        for part in "qkv":
            self._matmul("x", part, (h, h))
        mixed = self._attention("q", "k", "v", self._weight("qkv.bias", (3 * h,)))
        self._matmul(mixed, "out", (h, h))
        self._skip_norm("out", "x", "norm1", "out.bias", "middle")
        self._matmul("middle", "up", (h, a.intermediate_size))
        self._matmul(self._activate("up"), "down", (a.intermediate_size, h))
        self._skip_norm("down", "middle", "norm2", "down.bias", "y")

    def _pre_norm(self) -> None:
        a, h = self.a, self.a.hidden_size
        normed = self._norm("x", "norm1") if self.has_norm1 else "x"
        for part in "qkv":
            self._matmul(normed, part, (h, h))
        for part in "qk":
            self._node(
                "RotaryEmbedding",
                [part, "positions", "cos", "sin"],
                [f"{part}.rotated"],
                domain=_CONTRIB,
                num_heads=a.attention_heads,
                interleaved=0,
            )
        mixed = self._attention("q.rotated", "k.rotated", "v", "")
        self._matmul(mixed, "out", (h, h))
        self._node("Add", ["out", "x"], ["middle"])
        normed = self._norm("middle", "norm2")
        for part in ("up", "gate"):
            self._matmul(normed, part, (h, a.intermediate_size))
        self._node("Mul", [self._activate("up"), "gate"], ["gated"])
        self._matmul("gated", "down", (a.intermediate_size, h))
        self._node("Add", ["down", "middle"], ["y"])

    def _attention(self, q: str, k: str, v: str, bias: str) -> str:
        inputs = [q, k, v, bias, "", "bias"]
        self._node("MultiHeadAttention", inputs, ["mixed"], domain=_CONTRIB, num_heads=self.a.attention_heads)
        return "mixed"

    def _activate(self, x: str) -> str:
        out, a = x + _ACTIVE, self.a
        if a.activation == "relu" or a.pre_norm:
            biased = x
            if not a.pre_norm:
                biased = f"{x}.biased"
                self._node("Add", [x, self._weight(f"{x}.bias", (a.intermediate_size,))], [biased])
            operator = {"relu": "Relu", "gelu": "Gelu", "gelu_tanh": "FastGelu"}[a.activation]
            self._node(operator, [biased], [out], domain="" if operator == "Relu" else _CONTRIB)
            return out
        operator = {"gelu": "BiasGelu", "gelu_tanh": "FastGelu"}[a.activation]
        self._node(operator, [x, self._weight(f"{x}.bias", (a.intermediate_size,))], [out], domain=_CONTRIB)
        return out

    def _norm(self, x: str, part: str) -> str:
        out = f"{part}.out"
        weight = self._weight(f"{part}.weight", (self.a.hidden_size,))
        self._node("LayerNormalization", [x, weight], [out], axis=-1, epsilon=self.a.norm_eps)
        return out

    def _skip_norm(self, x: str, skip: str, part: str, bias: str, out: str) -> None:
        size = (self.a.hidden_size,)
        weights = [self._weight(f"{part}.weight", size), self._weight(f"{part}.bias", size), self._weight(bias, size)]
        inputs = [x, skip, *weights]
        self._node("SkipLayerNormalization", inputs, [out], domain=_CONTRIB, epsilon=self.a.norm_eps)

    def _matmul(self, x: str, part: str, shape: tuple[int, int]) -> None:
        """``part`` = x @ weight, the weight stored input rows first."""
        if not self.int8 or part in EXACT_PARTS:
            self._node("MatMul", [x, self._weight(f"{part}.weight", shape)], [part])
            return
        codes, scale, zero = self._quantize(x)
        weight = self._weight(f"{part}.codes", shape, TensorProto.INT8)
        product = self._name()
        self._node("MatMulInteger", [codes, weight, zero], [product])
        self._node("Cast", [product], [product + "f"], to=TensorProto.FLOAT)
        self._node("Mul", [product + "f", scale], [product + "r"])
        self._node("Mul", [product + "r", self._weight(f"{part}.scale", (shape[1],))], [part])

    def _quantize(self, x: str) -> tuple[str, str, str]:
        """x as uint8 codes with a scale per token (so that no token's code depends on its neighbours), and their zero.

        Values are symmetric around 128, but those of an activation count up from its least value.
        """
        if x not in self._quantized:
            scale, codes = f"{x}.scale", f"{x}.codes"
            one = self._constant("one", TensorProto.FLOAT, 1.0)
            if x.endswith(_ACTIVE):
                reach = self._constant("reach", TensorProto.FLOAT, ACTIVATION_REACH[self.a.activation])
                self._node("Add", [x, reach], [f"{x}.size"])
                source, zero, steps = f"{x}.size", self._constant("zero_up", TensorProto.UINT8, 0), 255
            else:
                self._node("Abs", [x], [f"{x}.size"])
                source, zero, steps = x, self._constant("zero", TensorProto.UINT8, 128), 127
            self._node("ReduceMax", [f"{x}.size"], [f"{x}.max"], axes=[-1], keepdims=1)
            self._node("Max", [f"{x}.max", self._constant("tiny", TensorProto.FLOAT, 1e-9)], [f"{x}.peak"])
            self._node("Mul", [f"{x}.peak", self._constant(f"step{steps}", TensorProto.FLOAT, 1 / steps)], [scale])
            self._node("Div", [source, scale], [f"{x}.ratio"])
            # QuantizeLinear with scale 1 rounds, shifts, clips and casts in one pass.
            self._node("QuantizeLinear", [f"{x}.ratio", one, zero], [codes])
            self._quantized[x] = (codes, scale, zero)
        return self._quantized[x]

    def _weight(self, name: str, shape: tuple[int, ...], dtype: int = TensorProto.FLOAT) -> str:
        tensor = onnx.TensorProto(name=name, dims=shape, data_type=dtype, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="from-the-bundle")
        self.initializers.append(tensor)
        return name

    def _constant(self, name: str, dtype: int, value: float) -> str:
        if all(t.name != name for t in self.initializers):
            self.initializers.append(helper.make_tensor(name, dtype, [], [value]))
        return name

    def _node(self, operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        self.nodes.append(helper.make_node(operator, inputs, outputs, **attributes))

    def _name(self) -> str:
        return next(self._fresh)

    @staticmethod
    def _numbers() -> Iterator[str]:
        count = 0
        while True:
            count += 1
            yield f"product{count}"
