"""Profiling: what a model's vectors are worth at every (exit, dim), measured with plain transformers."""
