"""Keys for functions in JAX's caches: functions with equal keys compute the same."""

import dataclasses
import functools
import types
from collections.abc import Callable, Hashable
from typing import Any

import jax

from xent_jax._modes import is_public

_JITTED = type(jax.jit(lambda: None))


@dataclasses.dataclass(frozen=True)
class Keyed:
    """Wraps a function so that it equals every other one with the same key."""

    key: Hashable
    call: Any = dataclasses.field(compare=False)

    def __call__(self, *args: Any) -> Any:
        """Calls the function with these arguments."""
        return self.call(*args)


def compiled(
    function: Callable[..., Any],
    jitted: Callable[..., Any],
    loss: Any,
    key: Callable[[], Hashable],
) -> Callable[..., Any]:
    """Returns ``function`` under ``jax.jit`` with ``loss`` as its first argument.

    It is compiled once for all calls where the loss has a key, and otherwise for this call alone.

    Args:
        function: takes the loss and hashable options, which are its static arguments.
        jitted: the same under ``jax.jit``.
        loss: a function, or a tuple of functions.
        key: gives the key of the loss, or raises TypeError where ``key_of`` does.
    """
    try:
        keyed = Keyed(key(), loss)
    except TypeError:
        fresh = functools.partial(function, loss)  # so that JAX traces it anew
        return jax.jit(fresh, static_argnums=0)
    return functools.partial(jitted, keyed)


def key_of(function: Callable[..., Any] | None) -> Hashable:
    """Returns a key that is equal for functions that compute the same.

    Raises TypeError for a function that has no key: one with a closure, whose contents may change,
    or one that holds arrays.
    """
    if function is None or isinstance(function, _JITTED) or is_public(function):
        return function
    if isinstance(function, functools.partial):
        given = [*enumerate(function.args), *sorted(function.keywords.items())]
        return (key_of(function.func), *((name, _value(v)) for name, v in given))
    if isinstance(function, types.FunctionType) and function.__closure__ is None:
        # Lambdas that the same line makes share their code object.
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        return (function.__code__, id(function.__globals__), *map(_value, defaults))
    raise TypeError


def _value(x: Any) -> Hashable:
    """Returns a value with its type, because 1, 1.0 and True are equal."""
    if isinstance(x, jax.Array):
        raise TypeError
    hash(x)
    return type(x), key_of(x) if callable(x) else x
