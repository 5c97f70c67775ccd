"""Every misuse gets the message that is pinned in its docstring, and leaves nothing behind."""

from __future__ import annotations

import pytest

from functrans.bind import is_evaluating
from functrans.errors import FunctransError
from tests.errors.pins import PROGRAMS, load_programs, write

# What Python itself raises, with words that need no more from us.
PYTHONS = {TypeError, ValueError, AttributeError}


@pytest.mark.parametrize("name", load_programs())
def test_message(name: str, update_snapshots: bool) -> None:
    misuse = PROGRAMS[name]
    message = misuse.message()
    assert is_evaluating(), "the error left a trace open"
    if update_snapshots:
        write(misuse, message)
    else:
        assert message == misuse.expected


@pytest.mark.parametrize("name", load_programs())
def test_message_names_the_place(name: str, update_snapshots: bool) -> None:
    misuse = PROGRAMS[name]
    if update_snapshots:
        return
    assert issubclass(misuse.error, FunctransError) or misuse.error in PYTHONS
    if issubclass(misuse.error, FunctransError):
        assert "HERE" in misuse.expected
        assert ".py:" not in misuse.expected, "a line is named that is not marked"


def test_message_count() -> None:
    assert len(PROGRAMS) >= 45
