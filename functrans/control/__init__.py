"""Primitives that hold a jaxpr: calls, checkpoints and functions with rules of their own."""
