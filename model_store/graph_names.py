"""Names of a bundle's graphs, apart from their making: serving reads graphs and must not import onnx."""

from model_store.manifest import Architecture

FLOAT, INT8 = "float32", "int8"


def block_graph_name(a: Architecture, index: int, kind: str) -> str:
    """Name of the graph that runs block ``index`` (0-based) in ``kind`` (FLOAT or INT8)."""
    first = a.pre_norm and index == 0  # has no norm of its own: the embedding norm stands in for it
    return f"block{'_first' if first else ''}_{kind}"
