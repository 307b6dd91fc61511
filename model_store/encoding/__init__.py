"""The reference encoder: plain transformers, shared by training and profiling."""
