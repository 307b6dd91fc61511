"""The encoder as the objective sees it: one vector per exit, all from one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from model_store.manifest import ExitNorm

_FINAL_NORMS = ("final_norm", "final_layernorm", "ln_f")  # what pre-norm encoders call theirs


class ExitHeads(nn.Module):
    """One affine map per exit, ``W p + b``, on the pooled vector; starts as the identity.

    ``weight`` [heads, dim, hidden], ``bias`` [heads, dim].
    """

    def __init__(self, heads: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(size).repeat(heads, 1, 1))
        self.bias = nn.Parameter(torch.zeros(heads, size))

    def forward(self, pooled: Tensor) -> Tensor:
        """[heads, rows, hidden] -> [heads, rows, dim]."""
        return torch.baddbmm(self.bias[:, None], pooled, self.weight.transpose(1, 2))


class Student(nn.Module):
    """A sentence-transformers model with an exit after each layer in ``exits`` (1-based, ascending, full depth last).

    Exits but the last have a head when ``heads`` is true; the last has none, so that the plain
    sentence-transformers model and the full-depth exit are the same function.
    Raises ValueError for models whose vectors this cannot describe.
    """

    def __init__(
        self, model: SentenceTransformer, exits: Sequence[int] = (), exit_norm: ExitNorm = "none", heads: bool = True
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
        self.final_norm = _final_norm(backbone)
        if exit_norm == "final" and self.final_norm is None:
            raise ValueError("exit_norm 'final' needs a pre-norm encoder: this one has no final norm")
        self.exit_norm = exit_norm
        self.heads = ExitHeads(len(self.exits) - 1, self.hidden_size) if heads and len(self.exits) > 1 else None
        self.eval()  # no dropout: it costs steps and gains nothing where the target is a teacher's vector
        if getattr(backbone, "pooler", None) is not None:
            backbone.pooler = None  # some families carry one that no exit uses; it must not be trained or saved

    def pooled(self, features: Mapping[str, Tensor]) -> Tensor:
        """Pooled hidden states [exits, rows, hidden] in float32, before heads, of tokens [rows, length]."""
        output = self.backbone(**features, output_hidden_states=True)
        states = [self._exit_state(output, layer) for layer in self.exits]
        mask = features["attention_mask"]
        return torch.stack(
            [
                self.pooling({"token_embeddings": s.float(), "attention_mask": mask})["sentence_embedding"]
                for s in states
            ]
        )

    def apply_heads(self, pooled: Tensor) -> Tensor:
        """Vectors [exits, rows, dim] of pooled states [exits, rows, hidden]; neither cut nor normalised."""
        if self.heads is None:
            return pooled
        return torch.cat([self.heads(pooled[:-1]), pooled[-1:]])

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Vectors [exits, rows, dim] of tokens [rows, length]; neither cut nor normalised."""
        return self.apply_heads(self.pooled(features))

    def _exit_state(self, output: Any, layer: int) -> Tensor:
        if layer == self.layers:
            return output.last_hidden_state  # type: ignore[no-any-return]  # final norm included, where there is one
        state: Tensor = output.hidden_states[layer]
        return self.final_norm(state) if self.exit_norm == "final" and self.final_norm is not None else state


def _final_norm(backbone: nn.Module) -> nn.Module | None:
    for name in _FINAL_NORMS:
        module = getattr(backbone, name, None)
        if isinstance(module, nn.Module):
            return module
    return None
