"""Functions with backward passes of their own, right and wrong, to try the provers with."""

from typing import Any, NamedTuple

import jax
import pytest
from xent_jax.proofs import prove_vjp


class Rule(NamedTuple):
    """A function, backward passes as ``(g, *args)`` that are its derivative, and others.

    None stands for JAX's own derivative.
    """

    value: Any
    args: dict
    right: tuple = (None,)
    wrong: tuple = ()
    least: dict | None = None
    wrt: tuple | None = None  # all floats
    slow: bool = False


def each(rules, side):
    """Makes a test one of ``(rule, backward)``, for each that is on that side, right or wrong."""
    cases = [
        pytest.param(
            rule, backward, id=f"{name} {n}", marks=[pytest.mark.slow] if rule.slow else ()
        )
        for name, rule in rules.items()
        for n, backward in enumerate(getattr(rule, side))
    ]
    return pytest.mark.parametrize(("rule", "backward"), cases)


def with_backward(value, backward):
    """A ``custom_vjp`` of ``value`` whose cotangents are ``backward(g, *args)``.

    That is a tuple, or the one cotangent of the first argument. The last arguments may have none.
    If ``backward`` is None, returns ``value`` itself, which has JAX's own derivative.
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
    """The names of the arguments, or trees of them, that are neither indices nor truth values."""
    sorts = {name: getattr(spec, "sort", "tree") for name, spec in args.items()}
    return tuple(name for name, sort in sorts.items() if sort not in ("index", "boolean"))


def verdict_on(rule, backward, **options):
    """The verdict on a rule with one of its backward passes."""
    fun = with_backward(rule.value, backward)
    wrt = rule.wrt or floats(rule.args)
    return prove_vjp(fun, rule.args, wrt, least=rule.least, timeout=60, **options)


def assert_proved(verdict):
    assert verdict.status == "proved", verdict


def assert_refuted(verdict):
    """The prover has not proved it, and numbers show that it is wrong."""
    assert verdict.status == "refuted", verdict
    assert "seemed proved" not in verdict.reason, verdict
