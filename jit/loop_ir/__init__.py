"""The middle language: structured loop nests over flat buffers, between the jaxpr and LLVM."""
