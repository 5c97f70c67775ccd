"""Errors: programs that misuse the library, each pinned with the whole message it gets."""
