"""jit: the native engine of functrans, which compiles jaxprs through loop nests to machine code."""

__version__ = "0.1.0"
