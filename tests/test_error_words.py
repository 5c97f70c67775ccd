"""The words that messages are built from: places, values, names."""

from __future__ import annotations

import functools
import os
import pickle
from typing import Any

import numpy as np
import pytest

from functrans import errors
from functrans.errors import argument_name, describe, name_of, user_frame, where


class Callable:
    def __call__(self, x: Any) -> Any:
        return x

    def method(self, x: Any) -> Any:
        return x

    @classmethod
    def made(cls, x: Any) -> Any:
        return x


def decorated(f: Any) -> Any:
    @functools.wraps(f)
    def wrapper(*args: Any) -> Any:
        return f(*args)

    return wrapper


def plain(x: Any, y: Any = 0) -> Any:
    return x


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.zeros((2, 3)), "f64[2,3]"),
        (np.zeros(3, np.float32), "f32[3]"),
        (np.int8(3), "i8[]"),
        (np.zeros(0, bool), "bool[0]"),
        (np.zeros(1, complex), "c128[1]"),
        (np.array(["a"]), "str32[1]"),
        (3.0, "the float 3.0"),
        (True, "the bool True"),
        ("x" * 60, "the str '" + "x" * 36 + "..."),
        (None, "None"),
        ([1, 2.0], "[1, 2.0]"),
        ((np.ones(2),), "(f64[2],)"),
        ({"w": np.ones(2), 1: None}, "{'w': f64[2], 1: None}"),
        (list(range(9)), "[0, 1, 2, 3, 4, 5, ...]"),
        (plain, "the function plain"),
        (int, "the class int"),
        (object(), "an object of type object"),
    ],
)
def test_describe(value: Any, text: str) -> None:
    assert describe(value) == text


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (plain, "plain"),
        (functools.partial(plain, 1), "plain"),
        (decorated(plain), "plain"),
        (Callable().method, "method"),
        (Callable.made, "made"),
        (Callable(), "__call__"),
        (lambda x: x, "<lambda>"),
        (np.sum, "sum"),
        (np.sin, "sin"),
        (int, "int"),
    ],
)
def test_name_of(f: Any, name: str) -> None:
    assert name_of(f) == name


def test_where() -> None:
    line = plain.__code__.co_firstlineno
    assert where(plain) == f"plain at test_error_words.py:{line}"
    assert where(functools.partial(decorated(plain), 1)) == where(plain)
    assert where(("/a/b.py", 3, "f")) == "f at b.py:3"
    assert where(None) == "an unknown place"
    assert where(len) == "len"


def test_user_frame_is_the_first_line_outside_the_library() -> None:
    found = user_frame()
    assert found is not None
    assert found.function == "test_user_frame_is_the_first_line_outside_the_library"
    assert found.file == __file__


def test_argument_name() -> None:
    assert argument_name(plain, 1) == "argument 1 (y)"
    assert argument_name(Callable().method, 0) == "argument 0 (x)"
    assert argument_name(lambda *xs: xs, 2) == "argument 2"
    assert argument_name(len, 0) == "argument 0"


def test_every_error_is_the_builtin_that_numpy_users_expect() -> None:
    classes = [
        c
        for c in vars(errors).values()
        if isinstance(c, type) and issubclass(c, errors.FunctransError)
    ]
    assert len(classes) > 10
    for cls in classes:
        if cls is not errors.FunctransError:
            assert cls.__bases__[0] is errors.FunctransError
            assert cls.__bases__[1].__module__ in ("builtins", "numpy.exceptions")
            assert cls.__doc__


def test_a_message_without_a_place_gets_the_line_being_executed() -> None:
    line = errors.user_frame().line + 1  # type: ignore[union-attr]
    error = errors.ShapeError("The axis is 3.5 long. Make it shorter.")
    place = f"{test_a_message_without_a_place_gets_the_line_being_executed.__name__} at {FILE}"
    assert str(error) == f"The axis is 3.5 long (in {place}:{line}). Make it shorter."
    assert error.reason == "The axis is 3.5 long. Make it shorter."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(errors.ShapeError(f"no axis ({where(plain)}).")) == f"no axis ({where(plain)})."


FILE = os.path.basename(__file__)
