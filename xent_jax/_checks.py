"""Checks of what is known before tracing: shapes, dtypes and static options.

Every message names the function and the argument, what was wanted, what came, and what to do about
it. Traced values are never inspected.
"""

import functools
import math
import operator
import reprlib
from collections.abc import Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
from jax import Array

from xent_jax._shards import Shards
from xent_jax._types import Axis, AxisName, KernelAxes, Reduction


def describe(x: Array | jax.ShapeDtypeStruct) -> str:
    """Returns a text such as ``float32[8,10]``."""
    return f"{x.dtype}[{','.join(map(str, x.shape))}]"


def shown(x: Any) -> str:
    """Returns a short text for any value in a message, without memory addresses."""
    if isinstance(x, jax.core.Tracer):
        return f"a traced {describe(x)}"
    return f"the function {x.__name__}" if hasattr(x, "__name__") else reprlib.repr(x)


def array(function: str, name: str, x: Any) -> Array:
    """Converts anything array-like to an array."""
    if isinstance(x, Array):  # jnp.asarray takes much of the time of an eager call
        return x
    try:
        return jnp.asarray(x)
    except (TypeError, ValueError, OverflowError) as error:
        hint = _unwrapped(name, x)
        if isinstance(error, OverflowError):
            dtype = jnp.result_type(int)
            hint = f" It has an integer that {dtype}, JAX's default, cannot hold."
        raise TypeError(
            f"{function}: {name} must be an array of numbers, or a list of them, got {shown(x)}."
            f"{hint}"
        ) from None


def _unwrapped(name: str, x: Any) -> str:
    """Returns a hint how to take the array out of another library's box or named array."""
    if hasattr(x, "unbox"):  # flax.linen.Partitioned and LogicallyPartitioned
        return f" It is a box around an array: pass {name}.unbox()."
    if hasattr(x, "array"):  # haliax.NamedArray
        return f" It holds an array: pass {name}.array."
    return ""


_is = functools.cache(jnp.issubdtype)


def reals(function: str, name: str, x: Any) -> Array:
    """Returns an array of floats, integers or booleans."""
    x = array(function, name, x)
    if not any(_is(x.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise TypeError(f"{function}: {name} must be real, got {describe(x)}. Pass the real part.")
    return x


def floats(function: str, name: str, x: Any, hint: str = "") -> Array:
    """Returns a floating-point array of any precision."""
    hint += f"Convert it, for example with jnp.asarray({name}, jnp.float32)."
    return _typed(function, name, x, jnp.floating, "a floating-point", hint)


def integers(function: str, name: str, x: Any, hint: str = "") -> Array:
    """Returns an array of integers; booleans are rejected."""
    hint += f"Convert class indices, for example with jnp.asarray({name}, jnp.int32)."
    return _typed(function, name, x, jnp.integer, "an integer", hint)


def mask(function: str, name: str, x: Any) -> Array:
    """Returns an array of booleans."""
    x = reals(function, name, x)
    if jnp.issubdtype(x.dtype, jnp.floating):
        hint = (
            f"A mask says what takes part; for weights, the losses that have a reduction take "
            f"weights=. If {name} holds only 0 and 1, pass {name} == 1."
        )
    else:
        hint = f"Compare it with zero: {name} != 0."
    return _typed(function, name, x, jnp.bool_, "a boolean", hint)


def _typed(function: str, name: str, x: Any, kind: Any, wanted: str, hint: str) -> Array:
    x = reals(function, name, x)
    if not _is(x.dtype, kind):
        raise TypeError(f"{function}: {name} must be {wanted} array, got {describe(x)}. {hint}")
    return x


def class_axes(
    function: str, axis: Axis, x: Array | jax.ShapeDtypeStruct, name: str = "logits"
) -> tuple[int, ...]:
    """Returns the class axes as non-negative numbers, in the order given."""
    if x.ndim == 0:
        wanted = "have a class axis, got a scalar. Give it shape [..., classes]."
        raise ValueError(f"{function}: {name} must {wanted}")
    several = isinstance(axis, Sequence) and not isinstance(axis, str)
    given: Any = range(x.ndim) if axis is None else axis if several else (axis,)
    try:
        axes = tuple(map(_index, given))
    except TypeError:
        wanted = "an int, a tuple of ints or None (all axes)"
        raise TypeError(f"{function}: axis must be {wanted}, {_got('axis', axis)}") from None
    if not axes or any(not -x.ndim <= a < x.ndim for a in axes):
        raise ValueError(
            f"{function}: axis must name axes of {name} {describe(x)}, from {-x.ndim} to "
            f"{x.ndim - 1}, got {axis!r}."
        )
    axes = tuple(a % x.ndim for a in axes)
    if len(set(axes)) < len(axes):
        raise ValueError(f"{function}: axis must not repeat an axis, got {axis!r}.")
    if math.prod(x.shape[a] for a in axes) == 0:
        got = f"got {describe(x)} with axis={axis!r}."
        raise ValueError(f"{function}: {name} must have at least one class, {got}")
    return axes


def axis_name(
    function: str,
    value: AxisName | Shards | None,
    axes: tuple[int, ...] = (-1,),
    name: str = "axis_name",
) -> Shards:
    """Returns the shards over the mesh axes, which must exist and divide one class axis."""
    shards = value if isinstance(value, Shards) else Shards(value)
    try:
        _ = shards.count
    except (NameError, TypeError, ValueError):
        raise ValueError(
            f"{function}: {name} must be a mesh axis of the jax.shard_map around the call, "
            f"got {shown(value)}. Outside shard_map, omit it: sharded arrays need no axis name "
            f"there."
        ) from None
    if shards and len(axes) > 1:
        raise ValueError(
            f"{function}: axis must be one class axis, which axis_name={value!r} shards, "
            f"got {len(axes)}."
        )
    return shards


def broadcastable(
    function: str, name: str, x: Array, shape: tuple[int, ...], to: str = "logits", hint: str = ""
) -> Array:
    """Returns ``x`` with the rank of ``shape``; it must broadcast to it without enlarging it."""
    if x.shape == tuple(shape):
        return x
    try:
        fits = jnp.broadcast_shapes(x.shape, shape) == tuple(shape)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{function}: {name} must broadcast to the shape of {to}, {list(shape)}, "
            f"got {describe(x)}. {hint}".rstrip()
        )
    return x if x.ndim == len(shape) else x.reshape((1,) * (len(shape) - x.ndim) + x.shape)


def weights(function: str, x: Any, batch: tuple[int, ...]) -> Any:
    """Checks the weights of the examples, which must broadcast to ``[*batch]`` or be None."""
    if x is None:
        return None
    hint = "A boolean mask is the argument where. "
    return broadcastable(
        function, "weights", floats(function, "weights", x, hint), batch, "the losses"
    )


def shape(
    function: str, name: str, x: Array, wanted: tuple[int, ...], why: str, hint: str = ""
) -> None:
    """Checks that ``x`` has exactly this shape."""
    if x.shape != tuple(wanted):
        raise ValueError(
            f"{function}: {name} must have shape {list(wanted)} ({why}), got {describe(x)}.{hint}"
        )


def scalar(
    function: str,
    name: str,
    x: Any,
    low: float = -math.inf,
    high: float = math.inf,
    above: bool = False,
) -> Any:
    """Returns a real number or a traced scalar; the range is checked if the value is known.

    With ``above``, ``low`` itself is out of range.
    """
    x = _number(function, name, x)
    if isinstance(x, jax.core.Tracer):
        return x
    value = float(x)
    if not (low < value if above else low <= value) or not value <= high:
        wanted = f"{'above' if above else 'at least'} {low:g}"
        if high < math.inf:
            wanted = f"from {low:g} to {high:g}"
        raise ValueError(f"{function}: {name} must be {wanted}, got {value:g}.")
    return value if isinstance(x, int | float) else x


def fraction(function: str, name: str, x: Any, dtype: jnp.dtype, hint: str) -> Any:
    """Returns a number above 0 and below 1 in that dtype, or a traced scalar."""
    x = _number(function, name, x)
    if not isinstance(x, jax.core.Tracer) and not 0 < dtype.type(float(x)) < 1:
        got = f"{float(x)!r} in {dtype}"
        raise ValueError(f"{function}: {name} must be above 0 and below 1, got {got}. {hint}")
    return x


def _number(function: str, name: str, x: Any) -> Any:
    """Returns a Python number, or an array without dimensions."""
    if isinstance(x, bool) or isinstance(x, str) or x is None:
        raise TypeError(f"{function}: {name} must be a number, got {x!r}.")
    if not isinstance(x, int | float):
        x = reals(function, name, x)
        if x.ndim or x.dtype == jnp.bool_:
            raise TypeError(f"{function}: {name} must be a number, got {describe(x)}.")
    return x


def temperature(function: str, x: Any) -> Any:
    """Returns a temperature above 0, or None for the number 1, which changes nothing."""
    x = scalar(function, "temperature", x, 0, above=True)
    return None if isinstance(x, int | float) and x == 1 else x


def unused(x: Any) -> bool:
    """Returns whether an option is off, that is the number 0 and not traced."""
    return isinstance(x, int | float) and x == 0


def integer(function: str, name: str, value: Any, low: int, high: float, wanted: str) -> int:
    """Returns a static integer in a range; ``wanted`` describes the range in the message."""
    try:
        number = _index(value)
    except TypeError:
        number = None
    if number is None or not low <= number <= high:
        raise ValueError(f"{function}: {name} must {wanted}, {_got(name, value)}")
    return number


def num_classes(function: str, value: Any, classes: int) -> int:
    """Returns a static number of classes, at most that of the kernel."""
    wanted = f"be an integer from 1 to {classes}, the number of the kernel's classes"
    return integer(function, "num_classes", value, 1, classes, wanted)


def _index(x: Any) -> int:
    if isinstance(x, bool):
        raise TypeError
    return operator.index(x)


def _got(name: str, value: Any) -> str:
    traced = any(isinstance(v, jax.core.Tracer) for v in jax.tree.leaves(value))
    hint = f" It is static: pass static_argnames={name!r} to jax.jit." if traced else ""
    return f"got {shown(value)}.{hint}"


def reduction(function: str, value: Any) -> Reduction:
    return _choice(function, "reduction", value, Reduction)


def kernel_axes(function: str, value: Any) -> KernelAxes:
    return _choice(function, "kernel_axes", value, KernelAxes)


def product_dtype(function: str, value: Any) -> Any:
    """Returns a floating-point dtype, or None."""
    if value is None:
        return None
    try:
        dtype = jnp.dtype(value)
    except TypeError:
        dtype = None
    if dtype is None or not _is(dtype, jnp.floating):
        raise TypeError(
            f"{function}: dtype must be a floating-point dtype, such as jnp.bfloat16, or None, got "
            f"{shown(value) if dtype is None else dtype}."
        )
    return jax.dtypes.canonicalize_dtype(dtype)


def _choice(function: str, name: str, value: Any, kind: Any) -> Any:
    if not isinstance(value, str) or value not in get_args(kind):
        choices = ", ".join(map(repr, get_args(kind)))
        raise ValueError(f"{function}: {name} must be one of {choices}, got {shown(value)}.")
    return value


def ignore_index(function: str, value: Any, dtype: Any) -> int | None:
    """Returns an integer that the labels' dtype can hold, or None."""
    if value is None:
        return None
    try:
        value = _index(value)
    except TypeError:
        raise TypeError(
            f"{function}: ignore_index must be an int or None, {_got('ignore_index', value)}"
        ) from None
    info = jnp.iinfo(dtype)
    if not info.min <= value <= info.max:
        raise ValueError(
            f"{function}: ignore_index={value} cannot occur in labels of dtype {dtype}, which "
            f"hold {info.min} to {info.max}. Use signed labels or another index."
        )
    return value
