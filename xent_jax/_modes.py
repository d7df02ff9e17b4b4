"""Reverse and forward mode: each public function exists in ``xent_jax`` and in ``forward_mode``.

The mode is an explicit argument of everything that is traced, because JAX's caches see arguments
and no ambient state.
"""

import contextlib
import functools
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

Mode = Literal["reverse", "forward"]
"""Which rule JAX differentiates a loss by: its ``custom_vjp`` or its ``custom_jvp``."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


_TWINS: dict[Any, Any] = {}
"""Maps the public functions of both modes to the public function of forward mode."""


def in_both_modes(function: Callable[Concatenate[Mode, _P], _R]) -> Callable[_P, _R]:
    """Returns the public function of reverse mode; ``in_mode`` finds that of forward mode.

    Args:
        function: the public function with the mode as an additional first argument.
    """
    public = _bound(function, "reverse", function.__module__)
    twin = _bound(function, "forward", "xent_jax.forward_mode")
    _TWINS.update({public: twin, twin: twin})
    return public


def forward_functions() -> dict[str, Callable[..., Any]]:
    """Returns the functions of forward mode that have been made, by their names."""
    return {twin.__name__: twin for twin in _TWINS.values()}


def is_public(function: Any) -> bool:
    """Returns whether this is a public function of the library that has a mode."""
    return isinstance(function, types.FunctionType) and function in _TWINS


def in_mode(mode: Mode, function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Returns a function of the library, or a ``functools.partial`` of one, in that mode.

    Any other function is returned unchanged: its author chose its rules.
    """
    if isinstance(function, functools.partial):
        inner = in_mode(mode, function.func)
        return functools.partial(inner, *function.args, **function.keywords)
    return _TWINS[function] if mode == "forward" and is_public(function) else function


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Adds a note about ``forward_mode`` to JAX's error for forward mode of a custom_vjp."""
    try:
        yield
    except TypeError as error:
        if "custom_vjp" in str(error):
            error.add_note("xent_jax.forward_mode has the same functions, for jvp and jacfwd too.")
        raise


def _bound(function: Callable[..., Any], mode: Mode, module: str) -> Callable[..., Any]:
    signature = inspect.signature(function)
    signature = signature.replace(parameters=list(signature.parameters.values())[1:])

    @functools.wraps(function)
    def public(*args: Any, **kwargs: Any) -> Any:
        try:
            with explained():
                return function(mode, *args, **kwargs)
        except TypeError:
            _check_call(function.__name__, signature, args, kwargs)
            raise

    public.__module__ = module  # where pickle looks for it
    setattr(public, "__signature__", signature)  # noqa: B010  mypy knows no such attribute
    return public


def _check_call(name: str, signature: inspect.Signature, args: Any, kwargs: Any) -> None:
    """Raises TypeError if the arguments do not fit; Python's message would count the mode too."""
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name}: {error}.") from None
