"""Mutants that change nothing that can be observed, each with the reason."""

from __future__ import annotations

EQUIVALENT: dict[str, str] = {}
"""Mutant.id -> why no test could notice it."""
