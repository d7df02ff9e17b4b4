"""Proves that the derivative that JAX will run is the derivative of the function.

1. The value of the function is proved equal to a reference at every input.
2. The reference's term, and nothing else, is differentiated.
3. The result is compared with what ``jax.vjp``, ``jax.jvp`` and their compositions return at
   symbolic sizes. The value that a forward rule returns beside its derivative is compared too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from . import counterexample as numbers
from . import elementwise as elementwise  # these add the rules of ``read``
from . import lookups as lookups
from . import parts as parts
from . import scan as scan
from . import shapes as shapes
from . import truth as truth
from .claims import jvp_claims, second_order_claims, value_claims, vjp_claims
from .decision import TIMEOUT, Decision
from .spec import Spec, check
from .trees import flattened
from .verdict import Verdict

Function = Callable[..., Any]


def prove_vjp(
    fun: Function,
    args: Mapping[str, Spec],
    wrt: Sequence[str],
    reference: Function | None = None,
    *,
    surrogate: Function | None = None,
    least: Mapping[str, int] | None = None,
    second_order: bool = False,
    timeout: float | None = TIMEOUT,
    search: bool = True,
    kinks: bool = True,
) -> Verdict:
    """Returns a verdict on whether ``jax.vjp`` of a function gives its derivative, for all sizes.

    Where the code compares sizes, as in ``k == 1``, ``n == k`` or ``k % 2 == 0``, it is traced and
    proved again at the sizes for which the comparison holds. Code is refused if it compares sizes
    in a way that cannot be solved for them, or looks up a size in a dict or a set.

    Args:
        fun: a function with positional arguments that returns an array or a tree of arrays.
        args: a spec for each argument of ``fun``, by name and in order: ``array``, ``labels``,
            ``permutation`` or ``scalar``. An argument that is a tree has a tree of specs, as in
            ``{"p": {"w": array("n d")}}``.
        wrt: the names of the arguments to differentiate by. The name of a tree stands for all
            arrays of floats in it, and ``"p['w']"`` names one of them.
        reference: a textbook function of the same arguments that ``fun`` must equal.
            Without it the value of ``fun`` itself is differentiated.
        surrogate: a function whose derivative the backward pass is meant to be, for a rule that is
            no derivative on purpose, such as a straight-through estimator. The value must still
            be that of ``fun`` and of the reference.
        least: the least sizes of dimensions, if 1 is too small for them, such as ``{"k": 2}``.
        second_order: whether to prove, instead of the gradient, that forward mode over it and
            reverse mode over it give its derivative.
        timeout: the most seconds to try, or None for no limit. The verdict is "unknown" if they
            have passed, or if the process has grown by 4 GiB of memory.
        search: whether to search for arguments at which the claim is wrong even if it is proved.
        kinks: whether to prove a function in pieces, such as relu, almost everywhere: nothing is
            claimed where its pieces meet, and ``assumptions`` say so. If False, it is refused.
    """
    args, wrt, of_arrays = flattened(args, wrt)
    check("prove_vjp", (fun, reference or fun, surrogate or fun), args, wrt, least)
    fun, reference, surrogate = map(of_arrays, (fun, reference, surrogate))
    made = second_order_claims if second_order else vjp_claims
    slope = surrogate or reference or fun
    return Decision(
        "prove_vjp",
        lambda a: made(fun, a, wrt, reference, surrogate),
        partial(numbers.vjp, fun, wrt, reference or fun, slope, second_order),
        timeout,
        search,
        kinks,
    ).verdict(args, least)


def prove_jvp(
    fun: Function,
    args: Mapping[str, Spec],
    wrt: Sequence[str],
    reference: Function | None = None,
    *,
    least: Mapping[str, int] | None = None,
    timeout: float | None = TIMEOUT,
    search: bool = True,
    kinks: bool = True,
) -> Verdict:
    """Returns a verdict on whether ``jax.jvp`` of a function gives its derivative, for all sizes.

    The arguments are those of ``prove_vjp``.
    """
    args, wrt, of_arrays = flattened(args, wrt)
    check("prove_jvp", (fun, reference or fun), args, wrt, least)
    fun, reference = map(of_arrays, (fun, reference))
    return Decision(
        "prove_jvp",
        lambda a: jvp_claims(fun, a, wrt, reference),
        partial(numbers.jvp, fun, wrt, reference or fun),
        timeout,
        search,
        kinks,
    ).verdict(args, least)


def prove_equal(
    f: Function,
    g: Function,
    args: Mapping[str, Spec],
    *,
    least: Mapping[str, int] | None = None,
    timeout: float | None = TIMEOUT,
    search: bool = True,
) -> Verdict:
    """Returns a verdict on whether two functions have the same value at every input.

    The value may be a number or -inf. The options are those of ``prove_vjp``.
    """
    args, _, of_arrays = flattened(args)
    check("prove_equal", (f, g), args, None, least)
    f, g = map(of_arrays, (f, g))
    return Decision(
        "prove_equal",
        lambda a: value_claims(f, g, a),
        partial(numbers.equal, f, g),
        timeout,
        search,
    ).verdict(args, least)


def assert_vjp_proved(
    fun: Function,
    args: Mapping[str, Spec],
    wrt: Sequence[str],
    reference: Function | None = None,
    **options: Any,
) -> None:
    """Raises an AssertionError with the verdict unless ``prove_vjp`` proves the function."""
    verdict = prove_vjp(fun, args, wrt, reference, **options)
    if not verdict.proved:
        name = getattr(fun, "__name__", fun)
        raise AssertionError(f"{name} is not proved: {verdict}")
