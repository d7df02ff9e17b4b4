"""Which questions are put to numbers, for each claim; ``_refutation`` answers them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._refutation.samples import samples
from .._refutation.search import Found, Question, Values, first_wrong
from .spec import Spec

Function = Callable[..., Any]
Least = Mapping[str, int] | None
GoesOn = Callable[[], bool]  # asked before each question at each point


def vjp(
    fun: Function,
    specs: Mapping[str, Spec],
    wrt: Sequence[str],
    reference: Function,
    slope: Function,
    least: Least,
    order: int,
    goes_on: GoesOn,
) -> Found | None:
    """Arguments at which the reverse derivative, or that of it, is wrong; None if none is met.

    The value is to be that of ``reference``, and the derivative that of ``slope``.
    """
    names, places = list(specs), [list(specs).index(w) for w in wrt]
    if order == 2:
        return _search(_second_order(fun, reference, names, places), specs, least, goes_on)

    def primal(*args: Any) -> Any:
        return jax.vjp(_of(fun, args, places), *[args[p] for p in places])[0]

    return _search(
        [
            *_values(fun, reference),
            Values("the value that jax.vjp gives", primal, reference),
            Question("the gradient to", fun, slope, names, places),
        ],
        specs,
        least,
        goes_on,
    )


def jvp(
    fun: Function,
    specs: Mapping[str, Spec],
    wrt: Sequence[str],
    reference: Function,
    least: Least,
    goes_on: GoesOn,
) -> Found | None:
    """Arguments at which the forward derivative is wrong."""
    names, places = list(specs), [list(specs).index(w) for w in wrt]

    def primal(*args: Any) -> Any:
        moving = [args[p] for p in places]
        return jax.jvp(_of(fun, args, places), moving, list(map(jnp.zeros_like, moving)))[0]

    return _search(
        [
            *_values(fun, reference),
            Values("the value that jax.jvp gives", primal, reference),
            Question("the tangent of", fun, reference, names, places, reverse=False),
        ],
        specs,
        least,
        goes_on,
    )


def equal(
    f: Function, g: Function, specs: Mapping[str, Spec], least: Least, goes_on: GoesOn
) -> Found | None:
    """Arguments at which two functions differ."""
    return _search(_values(f, g), specs, least, goes_on)


def _values(fun: Function, reference: Function) -> list[Values]:
    return [] if fun is reference else [Values("the value", fun, reference)]


def _second_order(
    fun: Function, reference: Function, names: list[str], places: list[int]
) -> list[Question | Values]:
    """Whether forward mode and reverse mode give the derivative of the gradient that is claimed."""

    def gradient(*args: Any) -> Any:
        return _pulled(fun, args, places, jnp.ones)

    def of_random(*args: Any) -> Any:
        return _pulled(fun, args, places, _waves)

    return [
        *_values(fun, reference),
        *(
            Question(what, of, of, names, places, reverse)
            for of in (gradient, of_random)
            for what, reverse in (
                ("forward over the gradient,", False),
                ("reverse over the gradient, to", True),
            )
        ),
    ]


def _pulled(fun: Function, args: Sequence[Any], places: list[int], seed: Function) -> Any:
    outs, pullback = jax.vjp(_of(fun, args, places), *[args[p] for p in places])
    return pullback(jax.tree.map(lambda o: seed(o.shape).astype(o.dtype), outs))


def _waves(shape: tuple[int, ...]) -> Any:
    """A cotangent whose entries all differ."""
    return jnp.asarray(np.random.default_rng(1).normal(size=shape))


def _of(fun: Function, args: Sequence[Any], places: list[int]) -> Function:
    def of(*moving: Any) -> Any:
        full = list(args)
        for p, m in zip(places, moving, strict=True):
            full[p] = m
        return fun(*full)

    return of


def _search(
    questions: Sequence[Question | Values],
    specs: Mapping[str, Spec],
    least: Least,
    goes_on: GoesOn,
) -> Found | None:
    rng = np.random.default_rng(0)
    points = samples(specs, np.random.default_rng(0), least)
    return first_wrong(questions, points, rng, goes_on)
