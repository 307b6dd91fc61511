"""From a Hugging Face config.json to the manifest's Architecture. Field names and defaults are transformers' own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from strata.model_store.bundle.manifest import Activation, Architecture, Rotary
from strata.model_store.bundle.strict import first_fault
from strata.model_store.importing.kinds import own_code, unknown
from strata.model_store.importing.refusal import RefusedError

_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
_Config = dict[str, Any]
_MPNET_BUCKETS = 32  # transformers computes the buckets with 32, whatever the config says
_MPNET_PADDING = 1  # and the padding id as 1


def read_architecture(config: _Config) -> Architecture:
    """The encoder's shape. Raises RefusedError naming the field of config.json that is missing or not supported."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in _FAMILIES:
        raise RefusedError(unknown(kind, config))
    try:
        return _read(kind, config)
    except RefusedError as error:
        raise RefusedError(f"{error}{own_code(config)}") from error


def _read(kind: str, config: _Config) -> Architecture:
    for field in ("is_decoder", "add_cross_attention"):
        if config.get(field):
            raise RefusedError(f"config.json: {field} is set; only encoders can be served")
    try:
        return Architecture.model_validate(_FAMILIES[kind](config), strict=True)  # a "12" is no number to transformers
    except ValidationError as error:
        raise RefusedError(f"config.json: {first_fault(error)}") from error
    except (TypeError, AttributeError) as error:
        raise RefusedError(f"config.json: a field has the wrong type: {error}") from error


def most_tokens(config: _Config) -> int | None:
    """The longest input that a config.json has positions for, in tokens; None where it does not say."""
    value = config.get("max_position_embeddings")
    return value - _position_offset(config) if isinstance(value, int) and value > 0 else None


def _position_offset(config: _Config) -> int:
    """The id of the first position."""
    if config.get("model_type") == "mpnet":
        return _MPNET_PADDING + 1
    # RoBERTa counts from the padding id: RobertaEmbeddings.create_position_ids_from_input_ids.
    return _padding_id(config) + 1 if config.get("model_type") in ("roberta", "xlm-roberta") else 0


def _need(config: _Config, field: str) -> Any:
    if config.get(field) is None:
        raise RefusedError(f"config.json: {field} is missing")
    return config[field]


def _activation(config: _Config, field: str) -> Activation:
    name = config.get(field, "gelu")
    if name not in _ACTIVATIONS:
        raise RefusedError(f"config.json: {field} {name!r} is not supported; supported are {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def _absolute_positions(config: _Config) -> None:
    kind = config.get("position_embedding_type", "absolute")
    if kind != "absolute":
        raise RefusedError(f"config.json: position_embedding_type {kind!r} is not supported, only 'absolute'")


def _bert(config: _Config) -> _Config:
    _absolute_positions(config)
    return {
        "family": "bert",
        "layers": _need(config, "num_hidden_layers"),
        "hidden_size": _need(config, "hidden_size"),
        "attention_heads": _need(config, "num_attention_heads"),
        "intermediate_size": _need(config, "intermediate_size"),
        "activation": _activation(config, "hidden_act"),
        "norm_eps": config.get("layer_norm_eps", 1e-12),
        "vocab_size": _need(config, "vocab_size"),
        "positions": _need(config, "max_position_embeddings"),
    }


def _roberta(config: _Config) -> _Config:
    return {**_bert(config), "family": "roberta", "position_offset": _position_offset(config)}


def _padding_id(config: _Config) -> int:
    value = config.get("pad_token_id", 1)
    if not isinstance(value, int) or value < 0:
        raise RefusedError(f"config.json: pad_token_id {value!r} is not a token id; positions are counted from it")
    return value


def _mpnet(config: _Config) -> _Config:
    buckets = config.get("relative_attention_num_buckets", _MPNET_BUCKETS)
    if buckets != _MPNET_BUCKETS:
        raise RefusedError(f"config.json: relative_attention_num_buckets {buckets!r} is not supported, only 32")
    shape = {**_bert(config), "family": "mpnet", "relative_buckets": buckets}
    return {**shape, "position_offset": _position_offset(config)}


def _distilbert(config: _Config) -> _Config:
    _absolute_positions(config)
    return {
        "family": "distilbert",
        "layers": _need(config, "n_layers"),
        "hidden_size": _need(config, "dim"),
        "attention_heads": _need(config, "n_heads"),
        "intermediate_size": _need(config, "hidden_dim"),
        "activation": _activation(config, "activation"),
        "norm_eps": 1e-12,  # fixed in transformers
        "vocab_size": _need(config, "vocab_size"),
        "positions": _need(config, "max_position_embeddings"),
    }


def _modernbert(config: _Config) -> _Config:
    # position_embedding_type means nothing here: mmBERT says "sans_pos", ModernBERT "absolute", both are rotary.
    for field in ("norm_bias", "attention_bias", "mlp_bias"):
        if config.get(field):
            raise RefusedError(f"config.json: {field} is set; ModernBERT with biases is not supported")
    layers = _need(config, "num_hidden_layers")
    thetas = _rotary_bases(config)
    return {
        "family": "modernbert",
        "layers": layers,
        "hidden_size": _need(config, "hidden_size"),
        "attention_heads": _need(config, "num_attention_heads"),
        "intermediate_size": _need(config, "intermediate_size"),
        "activation": _activation(config, "hidden_activation"),
        "norm_eps": config.get("norm_eps", 1e-5),
        "vocab_size": _need(config, "vocab_size"),
        "rotary": Rotary(
            global_theta=thetas[0],
            local_theta=thetas[1],
            global_every=_global_every(config, layers),
            local_window=config.get("local_attention", 128),
        ),
    }


def _rotary_bases(config: _Config) -> tuple[Any, Any]:
    """Bases of the global and the local layers: ``rope_parameters`` since transformers 5, two plain fields before."""
    bases = [config.get("global_rope_theta", 160_000.0), config.get("local_rope_theta", 10_000.0)]
    if bases[1] is None:  # "as the global ones", before transformers 5
        bases[1] = bases[0]
    parameters = config.get("rope_parameters") or {}
    for index, kind in enumerate(("full_attention", "sliding_attention")):
        part = parameters.get(kind) or {}
        for scaling in (part, config.get("rope_scaling") or {}):
            name = scaling.get("rope_type", scaling.get("type", "default"))
            if name != "default":
                raise RefusedError(f"config.json: rotary positions of type {name!r} are not supported, only 'default'")
        bases[index] = part.get("rope_theta", bases[index])
    return bases[0], bases[1]


def _global_every(config: _Config, layers: int) -> int:
    """n where every n-th layer attends globally: ``layer_types`` since transformers 5, a number before."""
    kinds = config.get("layer_types")
    if kinds is None:
        every = config.get("global_attn_every_n_layers", 3)
        if not isinstance(every, int) or every < 1:
            raise RefusedError(f"config.json: global_attn_every_n_layers {every!r} is not a number of layers")
        return every
    for every in range(1, layers + 1):
        if kinds == ["sliding_attention" if i % every else "full_attention" for i in range(layers)]:
            return every
    raise RefusedError("config.json: layer_types do not make every n-th layer, from the first, a global one")


_FAMILIES: dict[str, Callable[[_Config], _Config]] = {
    "bert": _bert,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
    "distilbert": _distilbert,
    "mpnet": _mpnet,
    "modernbert": _modernbert,
}
SERVED = tuple(_FAMILIES)
