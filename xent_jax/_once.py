"""What keeps an eager call from being traced and compiled anew each time."""

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from xent_jax import _checks
from xent_jax._chunks import pinned
from xent_jax._closed_form import in_forward_mode
from xent_jax._labels import smoothing_and_z_loss

_P = ParamSpec("_P")
_R = TypeVar("_R")
_ARRAY = jax.Array | np.ndarray | np.floating
_STATIC = "ignore_index", "num_classes", "top_k"  # numbers, even where they are arrays


def compiled_once(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The same function under ``jax.jit``, compiled once for each shape and choice of options.

    The loop over chunks is made of functions that are new in each call, so that JAX, eagerly,
    would compile it in each, and keep them all. Inside ``shard_map``, or where an argument is
    neither an array nor a plain value, the function is called as it is.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return function(*args, **kwargs)  # Python's own message names the function
        arrays = {k: v for k, v in given.items() if isinstance(v, _ARRAY) and k not in _STATIC}
        fixed = {k: v for k, v in given.items() if k not in arrays}
        plain = all(v is None or isinstance(v, str | int | float) for v in fixed.values())
        if not plain or pinned() or {"axis_name", "batch_axis_name"} & set(fixed):
            return function(*args, **kwargs)
        _check(function.__name__, given)
        kinds = tuple((k, type(v), v) for k, v in fixed.items())
        with contextlib.suppress(TypeError, ValueError):
            return _run(function, in_forward_mode(), kinds, arrays)
        return function(*args, **kwargs)  # for its message, without the frames of jit

    return call


def _check(name: str, given: dict[str, Any]) -> None:
    """Ranges, while the values are seen: under ``jit`` they are not."""
    smoothing_and_z_loss(
        name, given.get("label_smoothing", 0.0), given.get("z_loss", 0.0), jnp.float32
    )
    if given.get("logit_softcap") is not None:
        _checks.scalar(name, "logit_softcap", given["logit_softcap"], 0, above=True)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _run(function: Callable[..., Any], forward_mode: bool, fixed: tuple, arrays: dict) -> Any:
    return function(**{k: v for k, _, v in fixed}, **arrays)  # 0 and 0.0 are equal, not alike
