"""Declarations: what Python and NumPy offer to native entries, by LLVM types, said once for all.

A module declares what its functions mention: the functions below, and objects, which are known by
their addresses alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

PYTHON = {
    "PyBool_FromLong": "ptr (i64)",
    "PyComplex_FromDoubles": "ptr (double, double)",
    "PyDict_New": "ptr ()",
    "PyDict_Next": "i32 (ptr, ptr, ptr, ptr)",
    "PyDict_SetItem": "i32 (ptr, ptr, ptr)",
    "PyErr_Clear": "void ()",
    "PyErr_ExceptionMatches": "i32 (ptr)",
    "PyErr_NoMemory": "ptr ()",
    "PyEval_RestoreThread": "void (ptr)",
    "PyEval_SaveThread": "ptr ()",
    "PyFloat_FromDouble": "ptr (double)",
    "PyList_Append": "i32 (ptr, ptr)",
    "PyList_GetSlice": "ptr (ptr, i64, i64)",
    "PyList_New": "ptr (i64)",
    "PyList_SetSlice": "i32 (ptr, i64, i64, ptr)",
    "PyList_Size": "i64 (ptr)",
    "PyLong_AsLongLong": "i64 (ptr)",
    "PyLong_AsLongLongAndOverflow": "i64 (ptr, ptr)",
    "PyLong_AsUnsignedLong": "i64 (ptr)",
    "PyLong_FromLongLong": "ptr (i64)",
    "PyMem_RawFree": "void (ptr)",
    "PyMem_RawMalloc": "ptr (i64)",
    "PyObject_IsTrue": "i32 (ptr)",
    "PyObject_RichCompareBool": "i32 (ptr, ptr, i32)",
    "PyObject_Vectorcall": "ptr (ptr, ptr, i64, ptr)",
    "PyThread_get_thread_ident": "i64 ()",
    "PyTuple_New": "ptr (i64)",
    "PyType_GenericAlloc": "ptr (ptr, i64)",
    "PyUnicode_CompareWithASCIIString": "i32 (ptr, ptr)",
    "Py_DecRef": "void (ptr)",
    "Py_IncRef": "void (ptr)",
}
"""The functions of CPython's interface, found in the interpreter by name."""
NUMPY = {
    "PyArray_NewFromDescr": "ptr (ptr, ptr, i32, ptr, ptr, ptr, i32, ptr)",
    "PyArray_Scalar": "ptr (ptr, ptr, ptr)",
}
"""Those of NumPy's, found in its table."""


def module_text(triple: str, functions: Iterable[str], own: str = "") -> str:
    """The LLVM text of a module of these functions; `own` are the lines of its own globals."""
    body = "\n".join([own, *functions])
    mentioned = set(re.findall(r"@(\w+)", body))
    defined = set(re.findall(r"^define .*?@(\w+)\(|^@(\w+) =", body, re.MULTILINE))
    names = mentioned - {name for pair in defined for name in pair}
    declared = "\n".join([declaration(name) for name in sorted(names)])
    return f'target triple = "{triple}"\n{declared}\n{body}\n'


def declaration(name: str) -> str:
    """How a module declares what it imports."""
    kind = PYTHON.get(name) or NUMPY.get(name)
    if kind is None:
        return f"@{name} = external global i8"
    result, operands = kind.split(" ", 1)
    return f"declare {result} @{name}{operands}"
