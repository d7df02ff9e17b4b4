"""The search for arguments at which a derivative is wrong.

In float64, at small sizes, with ties, dominated rows, zeros, ignored labels and masks.
Truth is the reference differentiated by extrapolated differences; where its one-sided
differences disagree it has a kink, and the place proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._jax_internals import in_float64
from .spec import Spec, size_of

Arrays = dict[str, np.ndarray]
_KINDS = ("normal", "ties", "dominated", "zeros")
_TOLERANCE = 1e-6
_LEVELS = 5


def vjp(
    fun: Callable[..., Any],
    specs: Mapping[str, Spec],
    wrt: Sequence[str],
    reference: Callable[..., Any],
    least: Mapping[str, int] | None,
    order: int = 1,
) -> Arrays | None:
    """Arguments at which the reverse derivative, or that of it, is wrong; None if none is met."""
    test = _gradient_is_wrong if order == 1 else _second_is_wrong
    return _search(lambda x, rng: test(fun, reference, x, wrt, rng), fun, reference, specs, least)


def jvp(
    fun: Callable[..., Any],
    specs: Mapping[str, Spec],
    wrt: Sequence[str],
    reference: Callable[..., Any],
    least: Mapping[str, int] | None,
) -> Arrays | None:
    """Arguments at which the forward derivative is wrong."""
    return _search(
        lambda x, rng: _tangent_is_wrong(fun, reference, x, wrt, rng), fun, reference, specs, least
    )


def equal(
    f: Callable[..., Any],
    g: Callable[..., Any],
    specs: Mapping[str, Spec],
    least: Mapping[str, int] | None,
) -> Arrays | None:
    """Arguments at which two functions differ."""
    return _search(lambda x, rng: False, f, g, specs, least)


def _search(
    wrong: Callable[[Arrays, np.random.Generator], bool],
    fun: Callable[..., Any],
    reference: Callable[..., Any],
    specs: Mapping[str, Spec],
    least: Mapping[str, int] | None,
) -> Arrays | None:
    rng = np.random.default_rng(0)
    with in_float64():
        for x in samples(specs, rng, least):
            try:
                if _values_differ(fun, reference, x) or wrong(x, rng):
                    return x
            except (TypeError, ValueError, AttributeError):
                continue  # the function does not take these: nothing is shown by that
    return None


def samples(
    specs: Mapping[str, Spec], rng: np.random.Generator, least: Mapping[str, int] | None = None
) -> Iterator[Arrays]:
    """Arguments of several sizes and kinds."""
    names = sorted({d for s in specs.values() for d in s.names})
    for size in (1, 2, 3):
        for kind in _KINDS:
            sizes = dict.fromkeys(names, size)
            if size == 3:
                sizes = {d: 2 + i % 3 for i, d in enumerate(names)}
            for d, low in (least or {}).items():
                sizes[d] = max(sizes.get(d, low), low)
            yield _draw(specs, sizes, kind, rng)


def _draw(
    specs: Mapping[str, Spec], sizes: Mapping[str, int], kind: str, rng: np.random.Generator
) -> Arrays:
    drawn: Arrays = {}
    for name, spec in specs.items():
        shape = tuple(size_of(d, sizes) for d in spec.dims)
        if spec.classes is not None:
            y = rng.integers(0, size_of(spec.classes, sizes), shape)
            if spec.ignore is not None:
                y = np.where(rng.random(shape) < 0.3, spec.ignore, y)
            drawn[name] = y.astype(np.int32)
        elif spec.sort == "boolean":
            mask = rng.random(shape) < 0.6
            if spec.keeps is not None:
                y = drawn[spec.keeps]
                mask |= np.arange(shape[-1]) == y[..., None]
            drawn[name] = mask
        elif spec.sort == "integer":
            drawn[name] = rng.integers(-3, 4, shape).astype(spec.dtype)
        else:
            drawn[name] = _reals(spec, shape, kind, rng)
    return drawn


def _reals(spec: Spec, shape: tuple[int, ...], kind: str, rng: np.random.Generator) -> np.ndarray:
    x = rng.normal(size=shape)
    if kind == "ties":
        x = np.round(x)
    if kind == "dominated":
        x = 8 * x
    if spec.sort == "unit":
        return 1 / (1 + np.exp(-np.clip(x, -4, 4)))
    if spec.sort == "positive":
        return np.exp(np.clip(x, -4, 4))
    if kind == "zeros":
        x = x * (rng.random(shape) < 0.4)
    return np.abs(x) if spec.sort == "nonnegative" else x


def _values_differ(fun: Callable[..., Any], reference: Callable[..., Any], x: Arrays) -> bool:
    if fun is reference:
        return False
    a, b = (f(*map(jnp.asarray, x.values())) for f in (fun, reference))
    return _apart(a, b)


def _apart(a: Any, b: Any) -> bool:
    """Whether values differ from those wanted, where the latter are finite."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        return True
    with np.errstate(all="ignore"):
        return bool(np.any(np.isfinite(b) & ~(np.abs(a - b) <= _TOLERANCE * (1 + np.abs(b)))))


def _gradient_is_wrong(fun: Any, reference: Any, x: Arrays, wrt: Sequence[str], rng: Any) -> bool:
    arrays = [jnp.asarray(v) for v in x.values()]
    names = list(x)
    places = [names.index(w) for w in wrt]
    out, pullback = jax.vjp(_moving(fun, arrays, places), *[arrays[p] for p in places])
    if _apart(out, reference(*arrays)):
        return True
    g = jnp.asarray(rng.normal(size=out.shape))
    for p, claimed in zip(places, pullback(g), strict=True):
        truth = _differences(
            lambda v, p=p: jnp.sum(g * _with(reference, arrays, p, v)),  # type: ignore[misc]
            arrays[p],
        )
        if _disagree(np.asarray(claimed), *truth):
            return True
    return False


def _tangent_is_wrong(fun: Any, reference: Any, x: Arrays, wrt: Sequence[str], rng: Any) -> bool:
    arrays = [jnp.asarray(v) for v in x.values()]
    places = [list(x).index(w) for w in wrt]
    directions = [jnp.asarray(rng.normal(size=arrays[p].shape)) for p in places]
    out, tangent = jax.jvp(_moving(fun, arrays, places), [arrays[p] for p in places], directions)
    if _apart(out, reference(*arrays)):
        return True
    g = jnp.asarray(rng.normal(size=out.shape))

    def along(s: Any) -> Any:
        moved = [arrays[p] + s * d for p, d in zip(places, directions, strict=True)]
        return jnp.sum(g * _moving(reference, arrays, places)(*moved))

    truth = _differences(along, jnp.zeros(()))
    return _disagree(np.asarray(jnp.sum(g * tangent)), *truth)


def _second_is_wrong(fun: Any, reference: Any, x: Arrays, wrt: Sequence[str], rng: Any) -> bool:
    arrays = [jnp.asarray(v) for v in x.values()]
    places = [list(x).index(w) for w in wrt]
    moving = [arrays[p] for p in places]
    u, v = ([jnp.asarray(rng.normal(size=m.shape)) for m in moving] for _ in range(2))
    out = fun(*arrays)
    g = jnp.asarray(rng.normal(size=out.shape))

    def gradient(*m: Any) -> Any:
        return jax.vjp(_moving(fun, arrays, places), *m)[1](g)

    def slope(s: Any) -> Any:
        moved = [m + s * b for m, b in zip(moving, v, strict=True)]
        inner = gradient(*moved)
        return sum(jnp.sum(a * b) for a, b in zip(u, inner, strict=True))

    pushed = jax.jvp(gradient, moving, v)[1]
    claimed = sum(jnp.sum(a * b) for a, b in zip(u, pushed, strict=True))
    return _disagree(np.asarray(claimed), *_differences(slope, jnp.zeros(())))


def _moving(fun: Any, arrays: list[Any], places: list[int]) -> Callable[..., Any]:
    def of(*moving: Any) -> Any:
        full = list(arrays)
        for p, m in zip(places, moving, strict=True):
            full[p] = m
        return fun(*full)

    return of


def _with(fun: Any, arrays: list[Any], place: int, value: Any) -> Any:
    return _moving(fun, arrays, [place])(value)


def _differences(f: Callable[[Any], Any], x: Any) -> tuple[np.ndarray, np.ndarray]:
    """The extrapolated central differences to each entry, and where they can be trusted."""
    size = max(int(x.size), 1)
    steps = 0.02 / 2.0 ** np.arange(_LEVELS)
    scale = np.minimum(1.0, 0.5 * np.where(np.asarray(x) == 0, 2.0, np.abs(x))).reshape(-1)
    unit = (np.eye(size) * scale).reshape((size, *x.shape))
    moves = np.stack([sign * h * unit for h in steps for sign in (1, -1)])
    values = np.asarray(jax.vmap(jax.vmap(f))(x + moves)).reshape(_LEVELS, 2, size)
    middle = np.asarray(f(x))
    h = steps[:, None] * scale
    with np.errstate(all="ignore"):
        central = _extrapolated((values[:, 0] - values[:, 1]) / (2 * h), 4.0)
        right = _extrapolated((values[:, 0] - middle) / h, 2.0)
        left = _extrapolated((middle - values[:, 1]) / h, 2.0)
        smooth = np.abs(right - left) <= 1e-4 * (1 + np.abs(central))
    return central.reshape(x.shape), smooth.reshape(x.shape)


def _extrapolated(table: np.ndarray, ratio: float) -> np.ndarray:
    factor = ratio
    while len(table) > 1:
        table = (factor * table[1:] - table[:-1]) / (factor - 1)
        factor *= ratio
    return table[0]


def _disagree(claimed: np.ndarray, truth: np.ndarray, trusted: np.ndarray) -> bool:
    with np.errstate(all="ignore"):
        close = np.abs(claimed - truth) <= _TOLERANCE * (1 + np.abs(truth))
    return bool(np.any(trusted & np.isfinite(truth) & ~close))
