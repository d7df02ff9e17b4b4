"""Gives functions right and wrong backward passes, and asks the provers about them."""

from typing import Any, NamedTuple

import jax
import pytest
from xent_jax.proofs import prove_vjp


class Rule(NamedTuple):
    """A function, with backward passes of ``(g, *args)`` that are right and that are wrong.

    The backward pass None is JAX's own derivative.
    """

    value: Any
    args: dict
    right: tuple = (None,)
    wrong: tuple = ()
    least: dict | None = None
    wrt: tuple | None = None  # by default all floating arguments
    slow: bool = False


def each(rules, side):
    """Parametrizes a test by ``(rule, backward)``, for all right or all wrong backward passes."""
    cases = [
        pytest.param(
            rule, backward, id=f"{name} {n}", marks=[pytest.mark.slow] if rule.slow else ()
        )
        for name, rule in rules.items()
        for n, backward in enumerate(getattr(rule, side))
    ]
    return pytest.mark.parametrize(("rule", "backward"), cases)


def with_backward(value, backward):
    """Returns a ``custom_vjp`` of ``value`` whose cotangents are ``backward(g, *args)``.

    ``backward`` returns a tuple, or the cotangent of the first argument alone. The last arguments
    may have no cotangent. If ``backward`` is None, returns ``value`` itself, which has JAX's own
    derivative.
    """
    if backward is None:
        return value

    def of_all(args, g):
        found = backward(g, *args)
        found = found if isinstance(found, tuple) else (found,)
        return *found, *[None] * (len(args) - len(found))

    fun = jax.custom_vjp(lambda *args: value(*args))
    fun.defvjp(lambda *args: (value(*args), args), of_all)
    return fun


def floats(args):
    """Returns the names of arguments, or trees of them, that are neither indices nor booleans."""
    sorts = {name: getattr(spec, "sort", "tree") for name, spec in args.items()}
    return tuple(name for name, sort in sorts.items() if sort not in ("index", "boolean"))


def verdict_on(rule, backward, **options):
    """Returns the prover's verdict on a rule with one of its backward passes."""
    fun = with_backward(rule.value, backward)
    wrt = rule.wrt or floats(rule.args)
    return prove_vjp(fun, rule.args, wrt, least=rule.least, timeout=60, **options)


def assert_proved(verdict):
    assert verdict.status == "proved", verdict


def assert_refuted(verdict):
    """Asserts that the claim was refuted by numbers, and that the prover had not proved it."""
    assert verdict.status == "refuted", verdict
    assert "seemed proved" not in verdict.reason, verdict
