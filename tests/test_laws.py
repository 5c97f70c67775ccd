"""Every law of tests/laws.py over every primitive; the full lane runs every combination."""

from __future__ import annotations

import os

import pytest

from tests.laws import LAWS
from tests.samples_of import sampled


@pytest.fixture(scope="session")
def thorough(pytestconfig: pytest.Config) -> bool:
    """Is this the full lane?"""
    return bool(pytestconfig.getoption("--full")) or os.environ.get("FUNCTRANS_TESTS") == "full"


@pytest.mark.parametrize("name", sampled())
@pytest.mark.parametrize("law", LAWS)
def test_law(law: str, name: str, thorough: bool) -> None:
    """The law holds on the samples of the primitive."""
    LAWS[law](name, thorough)
