"""What can be done to a jaxpr: differentiate, split, transpose, batch, simplify; a walk a file."""
