"""Libraries: functrans and its peers behind one small interface, each imported when it is made.

A case is written once against this interface; where a peer has a better form, the case says so.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

Function = Callable[..., Any]


class Library(Protocol):
    """What a case may use of a library. `np` is its NumPy-like namespace.

    `lax` has the loops of functrans and JAX; no other library has it.
    """

    name: str
    np: Any

    def array(self, x: np.ndarray) -> Any:
        """A NumPy array as the library's own."""

    def jit(self, f: Function) -> Function:
        """f in the library's compiled form, where it has one."""

    def value_and_grad(self, f: Function, argnums: Any = 0, has_aux: bool = False) -> Function:
        """x -> (value, gradient); with has_aux ((value, aux), gradient)."""

    def grad(self, f: Function) -> Function:
        """x -> gradient."""

    def hessian(self, f: Function) -> Function:
        """x -> matrix of second derivatives."""

    def hvp(self, f: Function) -> Function:
        """(x, v) -> the Hessian of f at x times v."""

    def jet(self, f: Function, primals: Any, series: Any) -> Any:
        """The value of f and its derivatives along a curve."""

    def laplacian(self, f: Function) -> Function:
        """x -> the sum of the second derivatives of f."""

    def vmap(self, f: Function, in_axes: Any = 0) -> Function:
        """f mapped over an axis of its arguments."""

    def stop_gradient(self, x: Any) -> Any:
        """x, as a constant."""

    def logsumexp(self, x: Any, axis: int) -> Any:
        """log of the sum of exp along an axis."""

    def erfc(self, x: Any) -> Any:
        """The complementary error function."""

    def top_k(self, x: Any, k: int) -> Any:
        """The k largest along the last axis, and their places."""

    def sigmoid(self, x: Any) -> Any:
        """The logistic function."""

    def wait(self, result: Any) -> None:
        """Return when the result has been computed."""


class Functrans:
    """functrans, through its public names.

    Un-jitted transforms are timed as they are once they have come often: their programs are
    compiled when they first come, not in a thread beside what is timed.
    """

    name = "functrans"

    def __init__(self) -> None:
        self.ft = importlib.import_module("functrans")
        self.ft.config.unjitted = "compiled"
        self.np = importlib.import_module("functrans.numpy")
        self.sigmoid = importlib.import_module("functrans.nn").sigmoid
        self.jit, self.grad, self.hessian = self.ft.jit, self.ft.grad, self.ft.hessian
        self.value_and_grad, self.vmap = self.ft.value_and_grad, self.ft.vmap
        self.stop_gradient = self.ft.stop_gradient
        self.lax = importlib.import_module("functrans.lax")
        self.jet, self.laplacian = self.ft.jet, self.ft.laplacian

    def erfc(self, x: Any) -> Any:
        return importlib.import_module("functrans.lax").erfc(x)

    def top_k(self, x: Any, k: int) -> Any:
        return importlib.import_module("functrans.lax").top_k(x, k)

    def array(self, x: np.ndarray) -> Any:
        return x

    def hvp(self, f: Function) -> Function:
        return lambda x, v: self.ft.hvp(f, x, v)

    def logsumexp(self, x: Any, axis: int) -> Any:
        top = self.ft.stop_gradient(self.np.max(x, axis=axis, keepdims=True))
        total = self.np.sum(self.np.exp(x - top), axis=axis)
        return self.np.log(total) + self.np.squeeze(top, axis)

    def wait(self, result: Any) -> None:
        pass


class Jax:
    """JAX with 64-bit types on."""

    name = "jax"

    def __init__(self) -> None:
        self.jax = importlib.import_module("jax")
        self.jax.config.update("jax_enable_x64", True)
        self.np = importlib.import_module("jax.numpy")
        self.sigmoid = self.jax.nn.sigmoid
        self.jit, self.grad, self.hessian = self.jax.jit, self.jax.grad, self.jax.hessian
        self.value_and_grad, self.vmap = self.jax.value_and_grad, self.jax.vmap
        self.stop_gradient, self.lax = self.jax.lax.stop_gradient, self.jax.lax
        self.array, self.wait = self.np.asarray, self.jax.block_until_ready
        self.logsumexp, self.erfc = self.jax.nn.logsumexp, self.jax.scipy.special.erfc
        self.top_k = self.jax.lax.top_k

    def jet(self, f: Function, primals: Any, series: Any) -> Any:
        return importlib.import_module("jax.experimental.jet").jet(f, primals, series)

    def laplacian(self, f: Function) -> Function:
        """Forward over reverse, a Hessian-vector product for each unit vector."""
        gradient = self.jax.grad(f)

        def laplacian_of(x: Any) -> Any:
            curvature = lambda v: self.jax.jvp(gradient, (x,), (v,))[1] @ v
            return self.np.sum(self.jax.vmap(curvature)(self.np.eye(x.size)))

        return laplacian_of

    def hvp(self, f: Function) -> Function:
        return lambda x, v: self.jax.jvp(self.jax.grad(f), (x,), (v,))[1]


class Torch:
    """PyTorch, eager."""

    name = "torch"

    def __init__(self) -> None:
        self.np = self.torch = importlib.import_module("torch")
        self.logsumexp, self.erfc = self.torch.logsumexp, self.torch.special.erfc
        self.F = importlib.import_module("torch.nn.functional")
        self.top_k = lambda x, k: tuple(self.torch.topk(x, k))
        self.vmap = self.torch.func.vmap

    def array(self, x: np.ndarray) -> Any:
        return self.torch.from_numpy(np.array(x))

    def jit(self, f: Function) -> Function:
        return f

    def value_and_grad(self, f: Function, argnums: Any = 0, has_aux: bool = False) -> Function:
        """Through autograd.grad on detached leaves, which is quicker than torch.func."""
        torch, pytree = self.torch, importlib.import_module("torch.utils._pytree")
        chosen = (argnums,) if isinstance(argnums, int) else argnums

        def value_and_gradient(*args: Any) -> Any:
            leaves, spec = pytree.tree_flatten([args[i] for i in chosen])
            leaves = [x.detach().requires_grad_() for x in leaves]
            full = list(args)
            for i, part in zip(chosen, pytree.tree_unflatten(leaves, spec), strict=True):
                full[i] = part
            out = f(*full)
            value = out[0] if has_aux else out
            grads = pytree.tree_unflatten(torch.autograd.grad(value, leaves), spec)
            return out, grads[0] if isinstance(argnums, int) else tuple(grads)

        return value_and_gradient

    def grad(self, f: Function) -> Function:
        """Also of functions that are gradients themselves."""
        torch = self.torch

        def gradient(x: Any) -> Any:
            leaf = x if x.requires_grad else x.detach().requires_grad_()
            with torch.enable_grad():
                return torch.autograd.grad(f(leaf), leaf, create_graph=x.requires_grad)[0]

        return gradient

    def hessian(self, f: Function) -> Function:
        return self.torch.func.hessian(f)

    def hvp(self, f: Function) -> Function:
        return lambda x, v: self.torch.func.jvp(self.torch.func.grad(f), (x,), (v,))[1]

    def wait(self, result: Any) -> None:
        pass


class TorchCompile(Torch):
    """PyTorch through torch.compile, which needs a C++ compiler and some seconds for each case."""

    name = "torch.compile"

    def jit(self, f: Function) -> Function:
        return self.torch.compile(f, dynamic=False)

    def value_and_grad(self, f: Function, argnums: Any = 0, has_aux: bool = False) -> Function:
        """Through torch.func, which torch.compile can see into."""
        both = self.torch.func.grad_and_value(f, argnums, has_aux)
        return lambda *args: both(*args)[::-1]

    def grad(self, f: Function) -> Function:
        return self.torch.func.grad(f)


class Autograd:
    """HIPS autograd, which has no compiled form."""

    name = "autograd"

    def __init__(self) -> None:
        self.autograd = importlib.import_module("autograd")
        self.np = importlib.import_module("autograd.numpy")
        self.hessian, self.grad = self.autograd.hessian, self.autograd.grad
        special = importlib.import_module("autograd.scipy.special")
        self.logsumexp, self.erfc = special.logsumexp, special.erfc

    def array(self, x: np.ndarray) -> Any:
        return x

    def jit(self, f: Function) -> Function:
        return f

    def value_and_grad(self, f: Function, argnums: Any = 0, has_aux: bool = False) -> Function:
        """autograd has no aux outputs: a case that wants them computes them apart."""
        if has_aux:
            raise NotImplementedError("no aux outputs")
        if isinstance(argnums, int):
            return self.autograd.value_and_grad(f, argnums)
        head = len(argnums)
        both = self.autograd.value_and_grad(lambda first, *rest: f(*first, *rest))
        return lambda *args: both(tuple(args[:head]), *args[head:])

    def hvp(self, f: Function) -> Function:
        gradient = self.autograd.grad(f)
        return self.autograd.grad(lambda x, v: self.np.sum(gradient(x) * v))

    def wait(self, result: Any) -> None:
        pass


class Eager:
    """NumPy itself, operation by operation: for cases without derivatives."""

    name = "numpy"
    np = np

    def array(self, x: np.ndarray) -> Any:
        return x

    def jit(self, f: Function) -> Function:
        return f

    def wait(self, result: Any) -> None:
        pass


def _by_hand() -> Any:
    return importlib.import_module("tests.benchmarks.by_hand").ByHand()


BY_HAND = "by hand"
KINDS: dict[str, tuple[str, Callable[[], Library]]] = {
    "functrans": ("functrans", Functrans),
    "jax": ("jax", Jax),
    "torch": ("torch", Torch),
    "torch.compile": ("torch", TorchCompile),
    "autograd": ("autograd", Autograd),
    "numpy": ("numpy", Eager),
    BY_HAND: ("numpy", _by_hand),
}


def installed(name: str) -> bool:
    """Can this library be imported, or compiled, here? That is not done."""
    if name == BY_HAND:
        return shutil.which("cc") is not None
    return importlib.util.find_spec(KINDS[name][0]) is not None


def load(name: str) -> Library:
    """The library of this name, imported."""
    return KINDS[name][1]()
