"""Lowerings: how the elements of each primitive's results are made of elements of its operands."""
