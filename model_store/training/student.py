"""The encoder as the objective sees it: one vector per exit, all from one pass."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from strata.model_store.bundle.manifest import ExitNorm

_FINAL_NORMS = ("final_norm", "final_layernorm", "ln_f")  # what pre-norm encoders call theirs
_QUERY_SPREAD = 0.02  # of the first queries' components


class ExitHeads(nn.Module):
    """One head per exit but the last: attention pooling over the exit's hidden states, then an affine map.

    ``queries`` pooled vectors a head (0: the model's own pooled vector), joined to a width of ``queries * size``.
    Starts as the identity of the mean-pooled vector, but for queries that differ a little: alike they would stay alike.
    ``queries`` [heads, queries, size], ``weight`` [heads, size, width], ``bias`` [heads, size].
    """

    def __init__(self, heads: int, size: int, queries: int = 0) -> None:
        super().__init__()
        copies = max(queries, 1)
        self.size = size
        self.queries = nn.Parameter(_QUERY_SPREAD * torch.randn(heads, queries, size)) if queries else None
        self.weight = nn.Parameter((torch.eye(size) / copies).repeat(heads, 1, copies))
        self.bias = nn.Parameter(torch.zeros(heads, size))

    def forward(self, pooled: Tensor) -> Tensor:
        """[first heads, rows, width] -> [first heads, rows, size]."""
        count = len(pooled)
        return torch.baddbmm(self.bias[:count, None], pooled, self.weight[:count].transpose(1, 2))

    def attend(self, states: Tensor, mask: Tensor) -> Tensor:
        """Hidden states [first heads, rows, length, size] pooled by each query: [first heads, rows, width]."""
        assert self.queries is not None
        scores = self.queries[: len(states), None] @ states.transpose(2, 3)  # [heads, rows, queries, length]
        shares = scores.float().masked_fill(mask[:, None] == 0, -torch.inf).softmax(-1)
        return (shares @ states).flatten(2)

    def tensors(self, at: int) -> dict[str, Tensor]:
        """The tensors of one head by their part in heads.safetensors, each a view."""
        parts = {"queries": self.queries, "weight": self.weight, "bias": self.bias}
        return {part: tensor[at] for part, tensor in parts.items() if tensor is not None}


class Student(nn.Module):
    """A sentence-transformers model with an exit after each layer in ``exits`` (1-based, ascending, full depth last).

    Exits but the last have a head when ``heads`` is true; the last has none, so that the plain
    sentence-transformers model and the full-depth exit are the same function.
    Raises ValueError for models whose vectors this cannot describe.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        exits: Sequence[int] = (),
        exit_norm: ExitNorm = "none",
        heads: bool = True,
        head_queries: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        backbone: Any = model[0].auto_model
        self.backbone = backbone
        kinds = [type(module).__name__ for module in model]
        if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
            raise ValueError(
                f"only Transformer > Pooling (> Normalize) has exits at every layer, not {' > '.join(kinds)}"
            )
        self.pooling = model[1]
        config = backbone.config
        self.layers = int(config.num_hidden_layers)
        self.hidden_size = int(config.hidden_size)
        self.exits = tuple(exits) or tuple(range(1, self.layers + 1))
        if self.exits[-1] != self.layers:
            raise ValueError(f"exits must end with the last layer, {self.layers}, not {self.exits[-1]}")
        self.running = self.exits  # those that a pass computes; fewer inside ``up_to``
        self._pass = threading.local()  # .states: what the blocks of this thread's pass put out
        for block in self.blocks():
            block.register_forward_hook(self._keep_state)
        self.final_norm = _final_norm(backbone)
        if exit_norm == "final" and self.final_norm is None:
            raise ValueError("exit_norm 'final' needs a pre-norm encoder: this one has no final norm")
        self.exit_norm = exit_norm
        headed = len(self.exits) - 1 if heads else 0
        self.heads = ExitHeads(headed, self.hidden_size, head_queries) if headed else None
        self.eval()  # no dropout: it costs steps and gains nothing where the target is a teacher's vector
        if getattr(backbone, "pooler", None) is not None:
            backbone.pooler = None  # some families carry one that no exit uses; it must not be trained or saved

    def blocks(self) -> nn.ModuleList:
        """The transformer blocks a pass runs, in order."""
        holder, name = _block_list(self.backbone, self.layers)
        blocks: nn.ModuleList = getattr(holder, name)
        return blocks

    @contextmanager
    def up_to(self, layer: int) -> Iterator[None]:
        """Meanwhile every pass, in any thread, runs only the blocks that the exits not deeper than ``layer`` need."""
        holder, name = _block_list(self.backbone, self.layers)
        blocks: nn.ModuleList = getattr(holder, name)
        self.running = tuple(e for e in self.exits if e <= layer)
        setattr(holder, name, blocks[: self.running[-1]])
        try:
            yield
        finally:
            setattr(holder, name, blocks)
            self.running = self.exits

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Vectors [exits, rows, dim] of tokens [rows, length]; neither cut nor normalised."""
        return self.vectors(self.pooled(features))

    def pooled(self, features: Mapping[str, Tensor]) -> Tensor:
        """What the heads read, an exit after the other, and the last exit's vector: [rows, sum of widths], float32."""
        self._pass.states = []
        output = self.backbone(**features)
        states = [self._exit_state(output, layer) for layer in self.running]
        self._pass.states = []
        mask = features["attention_mask"]
        if self.heads is None or self.heads.queries is None:
            return torch.cat([self._own_pooling(state, mask) for state in states], dim=-1)
        early, last = states[: len(self.exits) - 1], states[len(self.exits) - 1 :]
        read = self.heads.attend(torch.stack([state.float() for state in early]), mask).transpose(0, 1).flatten(1)
        return torch.cat([read, *(self._own_pooling(state, mask) for state in last)], dim=-1)

    def vectors(self, pooled: Tensor) -> Tensor:
        """Vectors [exits, rows, dim] of what ``pooled`` gave."""
        if self.heads is None:
            return pooled.view(len(pooled), -1, self.hidden_size).transpose(0, 1)
        read, last = self.heads_read(pooled)
        return torch.cat([self.heads(read), last])

    def heads_read(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """What ``pooled`` gave, apart: what heads read [heads, rows, width], the last exit's [0 or 1, rows, dim]."""
        assert self.heads is not None
        width = self.heads.weight.shape[-1]
        headed = min(len(self.running), len(self.exits) - 1)
        read, last = pooled[:, : headed * width], pooled[:, headed * width :]
        return read.view(len(pooled), headed, width).transpose(0, 1), last.view(
            len(pooled), -1, self.hidden_size
        ).transpose(0, 1)

    def _own_pooling(self, state: Tensor, mask: Tensor) -> Tensor:
        """The model's own pooling (its mean, most often) of states [rows, length, hidden]."""
        pooled: Tensor = self.pooling({"token_embeddings": state.float(), "attention_mask": mask})["sentence_embedding"]
        return pooled

    def _keep_state(self, block: nn.Module, inputs: object, output: Any) -> None:
        self._pass.states.append(output[0] if isinstance(output, tuple) else output)

    def _exit_state(self, output: Any, layer: int) -> Tensor:
        if layer == self.layers:
            return output.last_hidden_state  # type: ignore[no-any-return]  # final norm included, where there is one
        state: Tensor = self._pass.states[layer - 1]
        return self.final_norm(state) if self.exit_norm == "final" and self.final_norm is not None else state


def _block_list(backbone: nn.Module, layers: int) -> tuple[nn.Module, str]:
    """The module that holds the blocks in a list, and the list's name there."""
    for module in backbone.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == layers:
                return module, name
    raise ValueError(f"no list of {layers} blocks in {type(backbone).__name__}")


def _final_norm(backbone: nn.Module) -> nn.Module | None:
    for name in _FINAL_NORMS:
        module = getattr(backbone, name, None)
        if isinstance(module, nn.Module):
            return module
    return None
