"""Searches for arguments at which a claim is wrong.

This file says which questions a claim asks, and ``_refutation`` answers them at numbers. A search
returns arguments at which the claim is wrong, or None if it finds none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._refutation.samples import samples
from .._refutation.search import Found, Question, Values, first_wrong
from .spec import Spec
from .trace import restricted

Function = Callable[..., Any]
Specs = Mapping[str, Spec]
Least = Mapping[str, int] | None
GoesOn = Callable[[], bool]  # whether to ask the next question


def vjp(
    fun: Function,
    wrt: Sequence[str],
    reference: Function,
    slope: Function,
    second_order: bool,
    specs: Specs,
    least: Least,
    goes_on: GoesOn,
) -> Found | None:
    """Searches for arguments at which ``jax.vjp`` is wrong, or its derivative if ``second_order``.

    The value should be that of ``reference``, and the derivative that of ``slope``.
    """
    places = _places(specs, wrt)

    def primal(*args: Any) -> Any:
        of, moving = restricted(fun, args, places)
        return jax.vjp(of, *moving)[0]

    questions = _values(fun, reference)
    if second_order:
        questions += _second_order(fun, places)
    else:
        questions += [
            Values("the value that jax.vjp gives", primal, reference),
            Question("the gradient to", fun, slope, places),
        ]
    return _search(questions, specs, least, goes_on)


def jvp(
    fun: Function,
    wrt: Sequence[str],
    reference: Function,
    specs: Specs,
    least: Least,
    goes_on: GoesOn,
) -> Found | None:
    """Searches for arguments at which ``jax.jvp`` gives a wrong value or tangent."""
    places = _places(specs, wrt)

    def primal(*args: Any) -> Any:
        of, moving = restricted(fun, args, places)
        return jax.jvp(of, moving, list(map(jnp.zeros_like, moving)))[0]

    questions = [
        *_values(fun, reference),
        Values("the value that jax.jvp gives", primal, reference),
        Question("the tangent of", fun, reference, places, reverse=False),
    ]
    return _search(questions, specs, least, goes_on)


def equal(f: Function, g: Function, specs: Specs, least: Least, goes_on: GoesOn) -> Found | None:
    """Searches for arguments at which two functions differ."""
    return _search(_values(f, g), specs, least, goes_on)


def _places(specs: Specs, wrt: Sequence[str]) -> list[int]:
    return [list(specs).index(w) for w in wrt]


def _values(fun: Function, reference: Function) -> list[Question | Values]:
    return [] if fun is reference else [Values("the value", fun, reference)]


def _second_order(fun: Function, places: list[int]) -> list[Question | Values]:
    """Returns the questions whether both modes give the derivative of the claimed gradient.

    The gradient is taken for cotangents of ones, and for cotangents whose entries are random.
    """

    def waves(shape: tuple[int, ...]) -> Any:
        return jnp.asarray(np.random.default_rng(1).normal(size=shape))

    def pulled(seed: Function) -> Function:
        def gradient(*args: Any) -> Any:
            of, moving = restricted(fun, args, places)
            outs, pullback = jax.vjp(of, *moving)
            return pullback([seed(o.shape).astype(o.dtype) for o in outs])

        return gradient

    return [
        Question(what, gradient, gradient, places, reverse)
        for gradient in map(pulled, (jnp.ones, waves))
        for what, reverse in (
            ("forward over the gradient,", False),
            ("reverse over the gradient, to", True),
        )
    ]


def _search(
    questions: Sequence[Question | Values], specs: Specs, least: Least, goes_on: GoesOn
) -> Found | None:
    rng = np.random.default_rng(0)
    points = samples(specs, np.random.default_rng(0), least)
    return first_wrong(questions, points, rng, goes_on)
