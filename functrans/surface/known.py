"""Known values: where operands decide a shape, they are asked for their values here."""

from __future__ import annotations

from typing import Any

import numpy as np

from functrans.primitives.derive import Value


def known_values(x: Value, remedy: str) -> np.ndarray[Any, Any]:
    """The values of an array, as constants for derivatives.

    ConcretizationError where its trace has none; the message ends with `remedy`, a sentence
    without its full stop that says what to use instead.
    """
    recorder = getattr(x, "recorder", None)
    return np.asarray(x if recorder is None else recorder.force(x, remedy))
