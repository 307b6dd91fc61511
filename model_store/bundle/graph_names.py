"""What the making of graphs and their running must agree on; serving reads graphs and must not import onnx."""

from strata.model_store.bundle.manifest import Architecture

FLOAT, INT8 = "float32", "int8"

# Products that int8 leaves in fp32: a softmax over scores turns their small errors into large ones. Without this the
# worst cosine to fp32 of gte-small falls from 0.998 to 0.994.
EXACT_PARTS = ("q", "k", "v")

# How far below zero an activation reaches. int8 counts its output up from there, which doubles the resolution of the
# half that matters; the shift comes out of the next product as a constant, which is taken from that product's bias.
ACTIVATION_REACH = {"gelu": 0.17, "gelu_tanh": 0.17, "relu": 0.0}


def block_graph_name(a: Architecture, index: int, kind: str) -> str:
    """Name of the graph that runs block ``index`` (0-based) in ``kind`` (FLOAT or INT8)."""
    first = a.pre_norm and index == 0  # has no norm of its own: the embedding norm stands in for it
    return f"block{'_first' if first else ''}_{kind}"
