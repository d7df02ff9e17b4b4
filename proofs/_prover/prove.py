"""The prover: whether the derivative that JAX will run is that of the function.

1. The value of the function equals a reference, at every input.
2. The reference's term, and nothing else, is differentiated.
3. What ``jax.vjp``, ``jax.jvp`` and their compositions return, read at symbolic sizes,
   is compared with that: derivatives, and the value that a forward rule gives beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from . import counterexample as numbers
from . import elementwise as elementwise  # these put in what ``read`` can read
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
    """Returns whether ``jax.vjp`` of a function gives its derivative, for all sizes.

    Where the code compares sizes, as in ``k == 1``, ``n == k`` or ``k % 2 == 0``, it is traced and
    proved again at those for which that holds. A comparison that is not solved for sizes, or a dict
    or set that is asked for one, is refused.

    Args:
        fun: as the user calls it, with positional arguments, to one array or a tree of them.
        args: the spec of each argument, in their order: ``array``, ``labels``,
            ``permutation``, ``scalar``, or a tree of those for an argument that is a tree:
            ``{"p": {"w": array("n d")}}``.
        wrt: the names of the arguments to differentiate; of a tree, all arrays of floats in it, and
            ``"p['w']"`` is one of them.
        reference: a textbook function of the same arguments that ``fun`` must equal.
            Without it the value of ``fun`` itself is differentiated.
        surrogate: for a rule that is no derivative on purpose, such as a straight-through
            estimator: a function whose derivative the backward pass is meant to be. The value
            is still that of ``fun``, and of the reference.
        least: least sizes of dimensions, where 1 will not do: ``{"k": 2}``.
        second_order: instead of the gradient, whether forward mode over it and reverse
            mode over it give its derivative.
        timeout: for how many seconds at most to try; None for any time. The verdict is
            "unknown" at the end of it, or where the process has grown by 4 GiB of memory.
        search: whether arguments at which it is wrong are looked for where it is proved, too.
        kinks: whether a function in pieces, such as relu, is proved almost everywhere: nothing is
            claimed where its pieces meet, and ``assumptions`` say so. If False it is refused.
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
    """Returns whether ``jax.jvp`` gives the derivative; ``prove_vjp`` describes the arguments."""
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
    """Returns whether two functions have the same value at every input, a number or -inf.

    The options are those of ``prove_vjp``.
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
    """Raises an AssertionError with the reason unless ``prove_vjp`` proves it."""
    verdict = prove_vjp(fun, args, wrt, reference, **options)
    if not verdict.proved:
        name = getattr(fun, "__name__", fun)
        raise AssertionError(f"{name} is not proved: {verdict}")
