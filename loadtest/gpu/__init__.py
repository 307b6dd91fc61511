"""`strata loadtest gpu`: an engine on one GPU, checked and measured, beside sentence-transformers, and behind HTTP."""

from strata.loadtest.gpu.sections import measure

__all__ = ["measure"]
