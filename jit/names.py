"""Names, messages and attributes that compiled programs share with what loads and calls them."""

ENTRY = "ft_entry"
"""The entry of a program."""
PARALLEL = "ft_parallel_for"
"""What runs the pieces of a loop on threads."""
PARALLEL_HOT = "ft_parallel_hot"
"""The same for a loop so small that threads which sleep are not woken for it."""
NO_MEMORY = "There is not enough memory to note the steps of a loop for its derivative."
"""The message that stands for a MemoryError."""
NEGATIVE_POWER = "Integers to negative integer powers are not allowed."
"""The message that stands for another exception than the others."""
FAILED = {
    "inverse": "Singular matrix",
    "solution": "Singular matrix",
    "cholesky": "Matrix is not positive definite",
    "lower_eigh": "Eigenvalues did not converge",
    "upper_eigh": "Eigenvalues did not converge",
    "eig": "Eigenvalues did not converge",
    "svd": "SVD did not converge",
    "full_svd": "SVD did not converge",
    "singular_values": "SVD did not converge",
    "qr": "Incorrect argument found while performing QR factorization",
    "complete_qr": "Incorrect argument found while performing QR factorization",
}
"""What NumPy says where a factorisation has no result, by its name."""
COLD = "nounwind noinline optnone"
"""Attributes of functions that run once per call: LLVM compiles them in a third of the time."""
