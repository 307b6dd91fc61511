"""An encoder over packed rows: hidden states of any layers, from one pass in the arithmetic the machine is quick in."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn.functional import one_hot

from strata.model_store.bundle.manifest import ExitNorm
from strata.model_store.training.attention import PACKED, attending
from strata.model_store.training.packing import Packed

_FINAL_NORMS = ("final_norm", "final_layernorm", "ln_f")  # what pre-norm encoders call theirs
_SIDE_BY_SIDE = ("bert", "distilbert", "roberta", "xlm-roberta")  # families that take rows as flat tokens


class Encoder(nn.Module):
    """A sentence-transformers model that reads ``Packed`` rows.

    ``model`` keeps the float32 weights. Blocks run in ``arithmetic``: where that is not float32, on copies of their
    weights, which ``refresh`` makes anew and whose gradients ``collect_gradients`` takes to the float32 ones.
    Raises ValueError for models whose vectors this cannot describe.
    """

    def __init__(
        self, model: SentenceTransformer, arithmetic: torch.dtype = torch.float32, exit_norm: ExitNorm = "none"
    ) -> None:
        super().__init__()
        self.model = model
        kinds = [type(module).__name__ for module in model]
        if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
            raise ValueError(
                f"only Transformer > Pooling (> Normalize) has exits at every layer, not {' > '.join(kinds)}"
            )
        self.pooling = _pooling(model[1])
        record: Any = model[0].auto_model
        if getattr(record, "pooler", None) is not None:
            record.pooler = None  # some families carry one that no exit uses; it must not be trained or saved
        self.layers, self.hidden_size = int(record.config.num_hidden_layers), int(record.config.hidden_size)
        self.pad_id = int(model.tokenizer.pad_token_id or 0)
        self.arithmetic = arithmetic
        self.side_by_side = record.config.model_type in _SIDE_BY_SIDE
        # RoBERTa and its kin count positions from the padding's number on.
        self._first_position = self.pad_id + 1 if "roberta" in record.config.model_type else 0
        if self._first_position and record.config.pad_token_id != self.pad_id:
            raise ValueError(
                f"{record.name_or_path}: config.json's pad_token_id is {record.config.pad_token_id}, "
                f"the tokenizer pads with id {self.pad_id}"
            )
        self._make_backbone(record)
        if exit_norm == "final" and self.final_norm is None:
            raise ValueError("exit_norm 'final' needs a pre-norm encoder: this one has no final norm")
        self.exit_norm = exit_norm
        self._pass = threading.local()  # .states: what the blocks of this thread's pass take in and put out
        self.eval()  # no dropout: it costs steps and gains nothing where the target is a teacher's vector

    def _make_backbone(self, record: Any) -> None:
        """The module that runs: ``record``'s own parameters but for copies of the blocks' in another arithmetic."""
        in_blocks = list(_blocks(record, self.layers).parameters())
        self._copies = [] if self.arithmetic == torch.float32 else [(p, _copy(p, self.arithmetic)) for p in in_blocks]
        kept = {id(p): p for p in record.parameters()} | {id(p): made for p, made in self._copies}
        # Not a registered child: its parameters are the model's, or copies that nobody saves.
        self._running: list[Any] = [copy.deepcopy(record, kept)]
        backbone = self._running[0]
        backbone.set_attn_implementation(PACKED if self.side_by_side else "eager")
        words = backbone.get_input_embeddings()
        # On a CPU: the table's gradient is made once a step, not filled with zeros by each micro-batch.
        words.sparse = words.weight.device.type == "cpu"
        self._words: nn.Parameter = words.weight
        self.final_norm = _final_norm(backbone)
        blocks = _blocks(backbone, self.layers)
        blocks[0].register_forward_pre_hook(lambda _, inputs: self._pass.states.append(inputs[0]))
        for block in blocks:
            block.register_forward_pre_hook(_to_arithmetic(self.arithmetic), with_kwargs=True)
            block.register_forward_hook(self._keep_state)
        if self.final_norm is not None:
            self.final_norm.register_forward_pre_hook(_to_arithmetic(torch.float32), with_kwargs=True)

    def blocks(self) -> nn.ModuleList:
        """The transformer blocks that keep the weights, in order."""
        record: Any = self.model[0].auto_model
        return _blocks(record, self.layers)

    def states(self, packed: Packed, layers: Sequence[int]) -> list[Tensor]:
        """Hidden states [bins, width, hidden] after each of ``layers`` (0: what the first block takes in)."""
        backbone = self._running[0]
        self._pass.states = []
        if self.side_by_side:
            ids, positions = packed.ids.view(1, -1), packed.positions.view(1, -1) + self._first_position
            output = backbone(input_ids=ids, position_ids=positions, rows=attending(packed, self.arithmetic))
            found = [self._state(output, layer) for layer in layers]
        else:
            rows = packed.padded()
            ids = torch.where(rows.mask, packed.ids.flatten()[rows.index], self.pad_id)
            output = backbone(input_ids=ids, attention_mask=rows.mask.long())
            found = [packed.flat(self._state(output, layer), rows) for layer in layers]
        self._pass.states = []
        return [state.view(*packed.ids.shape, self.hidden_size) for state in found]

    def own_pooling(self, state: Tensor, packed: Packed) -> Tensor:
        """The model's own pooling of states [bins, width, hidden], in float32: [rows, hidden] in packed order."""
        shares = one_hot(packed.slots + 1, packed.slot_count + 1)[..., 1:].transpose(1, 2).float()
        if self.pooling == "cls":
            shares = shares * (packed.positions == 0)[:, None]
        shares = shares / shares.sum(-1, keepdim=True).clamp(min=1)
        return (shares @ state.float()).flatten(0, 1).index_select(0, packed.places)

    def collect_gradients(self) -> None:
        """Give the float32 weights the gradients of their copies, and drop these; a table's becomes whole."""
        if self._words.grad is not None and self._words.grad.is_sparse:
            self._words.grad = self._words.grad.to_dense()
        if not self._copies:
            return
        gradients: list[Tensor] = []
        for weight, made in self._copies:
            if made.grad is not None:
                weight.grad = torch.empty_like(weight)
                gradients.append(weight.grad)
        torch._foreach_copy_(gradients, [made.grad for _, made in self._copies if made.grad is not None])
        for _, made in self._copies:
            made.grad = None

    @torch.no_grad()
    def refresh(self) -> None:
        """Make the copies what the float32 weights are now."""
        if self._copies:
            weights, made = zip(*self._copies, strict=True)
            torch._foreach_copy_(made, weights)

    def _keep_state(self, block: nn.Module, inputs: object, output: Any) -> None:
        self._pass.states.append(output[0] if isinstance(output, tuple) else output)

    def _state(self, output: Any, layer: int) -> Tensor:
        if layer == self.layers:
            last: Tensor = output.last_hidden_state  # final norm included, where there is one
            return last
        state: Tensor = self._pass.states[layer]
        if layer == 0 or self.exit_norm == "none" or self.final_norm is None:
            return state
        normed: Tensor = self.final_norm(state)
        return normed


def _copy(weight: nn.Parameter, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(weight.detach().to(dtype), requires_grad=weight.requires_grad)


def _to_arithmetic(dtype: torch.dtype) -> Any:
    """A pre-hook that casts every floating tensor among a module's arguments."""
    lowest = torch.finfo(dtype).min

    def cast(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point() and value.dtype != dtype:
            # A mask's lowest float32 would be -inf in less, and NaN in a softmax.
            return (value.clamp(min=lowest) if value.dtype == torch.float32 else value).to(dtype)
        return tuple(map(cast, value)) if type(value) is tuple else value

    def hook(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return cast(inputs), {name: cast(value) for name, value in named.items()}

    return hook


def _pooling(module: Any) -> str:
    mode = str(module.pooling_mode)
    if mode not in ("mean", "cls"):
        raise ValueError(f"pooling {mode!r} cannot be trained here; mean and cls can")
    return mode


def _blocks(backbone: nn.Module, layers: int) -> nn.ModuleList:
    """The list of the blocks."""
    for module in backbone.modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            return module
    raise ValueError(f"no list of {layers} blocks in {type(backbone).__name__}")


def _final_norm(backbone: nn.Module) -> nn.Module | None:
    for name in _FINAL_NORMS:
        module = getattr(backbone, name, None)
        if isinstance(module, nn.Module):
            return module
    return None
