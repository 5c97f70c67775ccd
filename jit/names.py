"""Names and messages that compiled programs share with what loads and calls them."""

ENTRY = "ft_entry"
"""The entry of a program."""
PARALLEL = "ft_parallel_for"
"""What runs the pieces of a loop on threads."""
NEGATIVE_POWER = "Integers to negative integer powers are not allowed."
"""The message that stands for another exception than the others."""
