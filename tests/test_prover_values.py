"""Functions of equal values are proved to be equal, and no others."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from xent_jax.proofs import array, labels, prove_equal, scalar
from xent_jax.proofs._theorems import textbook as book

import xent_jax
from tests.rules import assert_refuted

X, Z = {"x": array("n")}, {"x": array("n k")}
LABELS = labels("n", classes="k")
COLUMNS = {"x": array("k 2"), "y": LABELS}
TABLE = {"x": array("k m"), "y": LABELS}
ADDED = TABLE | {"u": array("n")}
KEPT = Z | {
    "y": labels("n", classes="k", ignore=-100),
    "m": array("n k", dtype=bool, keeps="y"),
}
BIASED = {"x": array("n k"), "b": array("k"), "y": LABELS}


def looped(x, start=0, step=0, end=0):
    """Returns the sum of ``x[i] * (i + step)`` for i in ``[start, n - end)``, by a loop."""

    def body(i, total):
        return total + x[i] * (i + step)

    return lax.fori_loop(start, x.shape[0] - end, body, jnp.zeros(()))


def numbered(x):
    return x * jnp.arange(x.shape[0])


def counted(x, by, reverse):
    """Returns the sum of x times a counter, and the counter at the end and at each iteration."""

    def body(carry, row):
        t, total = carry
        return (t + by, total + t * row), t

    (t, total), times = lax.scan(body, (3, jnp.zeros(())), x, reverse=reverse)
    return total, t.astype(x.dtype), times.astype(x.dtype)


def at_once(x, by, reverse):
    n = x.shape[0]
    times = jnp.arange(n)
    times = 3 + by * (n - 1 - times if reverse else times)
    return jnp.sum(times * x), jnp.asarray(3 + by * n, x.dtype), times.astype(x.dtype)


def so_far(x, reverse=False):
    """Returns booleans ``[i, j]``: whether j <= i, or j >= i if ``reverse``."""
    i = jnp.arange(x.shape[0])
    return i[:, None] <= i if reverse else i[:, None] >= i


def sums_so_far(x, reverse=False):
    return jnp.sum(jnp.where(so_far(x, reverse), x, 0.0), 1)


def greatest_so_far(x):
    return jnp.max(jnp.where(so_far(x), x, -jnp.inf), -1)


def split(x):
    m, c = jax.export.symbolic_shape("m, c", scope=x.shape[0].scope)
    return x.reshape(m, c)


def turned(x):
    m, c = jax.export.symbolic_shape("m, c", scope=x.shape[0].scope)
    return x.reshape(c, m).T


def hit(x, y):
    """Returns ``[n, k, m]``: whether an entry of x is in the label's row and in column 0."""
    return (jnp.arange(x.shape[0]) == y[:, None])[:, :, None] & (jnp.arange(x.shape[1]) == 0)


def first_of_slice(x, y):
    """Returns ``x[y, 0]``, by a gather of slices of size 1 along the axis without an index."""
    numbers = lax.GatherDimensionNumbers((1,), (0,), (0,))
    return lax.gather(x, y[:, None], numbers, (1, 1), mode="clip")[:, 0]


def added_at_0(x, y, u):
    numbers = lax.ScatterDimensionNumbers((), (0, 1), (0,))
    return lax.scatter_add(x, y[:, None], u, numbers, mode="clip")


def at_the_only_entry(x, y, mode):
    return x.at[y].get(mode=mode, fill_value=7.0)


def largest_is_below(x, b, y):
    own = jnp.take_along_axis(x, y[:, None], 1)[:, 0] + 2 * b[y]
    return jnp.where(own > jnp.max(x + b, -1), 1.0, 0.0)


def sum_of(x):
    return jnp.sum(x, -1)


def where_positive(x, value):
    return jnp.where(x > 0, value, x)


def left_out(x, fill):
    return jnp.where(x > 0, 0.0, where_positive(x, fill))


WEIGHTS = np.array([[1.0, 3.0], [0.5, 2.0]])


def columns_by(x, second):
    return jnp.stack([x[:, 0] + second * x[:, 1], 0.5 * x[:, 0] + 2 * x[:, 1]], 1)


def of(function, *args, **options):
    """Returns a function of arrays that passes these further arguments to ``function``."""
    return lambda *arrays: function(*arrays, *args, **options)


EQUAL = {
    "logsumexp": (xent_jax.logsumexp, book.logsumexp, Z),
    "a platform": (of(lax.platform_dependent, cpu=lambda x: x + x, default=lambda x: 2 * x),
                   lambda x: 2 * x, X),
    "squares of sine and cosine": (lambda x: jnp.sin(x) ** 2 + jnp.cos(x) ** 2, jnp.ones_like, X),
    "-inf": (of(where_positive, -jnp.inf), of(where_positive, -jnp.inf), Z),
    "infinite where it is left out": (of(left_out, jnp.inf), of(left_out, jnp.nan), Z),
    "a loop": (looped, lambda x: jnp.sum(numbered(x)), X),
    "a loop from the second": (of(looped, start=1), lambda x: jnp.sum(numbered(x)[1:]), X),
    **{f"a counter by {by}, reverse={r}": (of(counted, by, r), of(at_once, by, r), X)
       for by in (1, 2) for r in (False, True)},
    "a running sum": (lax.cumsum, sums_so_far, X),
    "a reverse running sum": (of(lax.cumsum, reverse=True), of(sums_so_far, reverse=True), X),
    "a running maximum": (lambda x: lax.cummax(x), greatest_so_far, X),
    "a running minimum": (lambda x: lax.cummin(x), lambda x: -greatest_so_far(-x), X),
    "the last running maximum": (lambda x: lax.cummax(x)[-1], jnp.max, X),
    "a reverse scan": (lambda x: lax.scan(lambda s, a: (s, 2 * a), 0.0, x, reverse=True)[1],
                       lambda x: 2 * x, {"x": array("m c")}),
    "an array of constants": (lambda x: x @ WEIGHTS.T, of(columns_by, 3.0), {"x": array("n 2")}),
    "differences": (lambda x: x[1:] - x[:-1], jnp.diff, X),
    "turned twice": (lambda x: x[::-1][::-1], lambda x: x, X),
    "a sum of all": (lambda x: jnp.sum(x.reshape(-1)), jnp.sum, {"x": array("n m")}),
    "a sum of eights": (lambda x: jnp.sum(x.reshape(-1, 8)), jnp.sum, {"x": array("8*d")}),
    "a sum of columns": (lambda x: jnp.sum(x[:, 0] + x[:, 1]), jnp.sum, {"x": array("n 2")}),
    "a sum of what is joined": (lambda x, y: jnp.sum(jnp.concatenate([x[None], y])),
                                lambda x, y: x + jnp.sum(y), {"x": scalar(), "y": array("n")}),
    "a split": (lambda x: split(x).reshape(-1), lambda x: x, {"x": array("m*c")}),
    "a column at labels": (lambda x, y: x[y, 0], lambda x, y: x[y][:, 0], COLUMNS),
    "the first of a slice": (first_of_slice,
                             lambda x, y: jnp.sum(jnp.where(hit(x, y), x, 0.0), (1, 2)), TABLE),
    "added at 0": (added_at_0, lambda x, y, u: x + jnp.sum(
        jnp.where(hit(x, y), u[:, None, None], 0.0), 0), ADDED),
    "the only entry, clipped": (of(at_the_only_entry, "clip"),
                                lambda x, y: jnp.broadcast_to(x, y.shape),
                                {"x": array("1"), "y": LABELS}),
}  # fmt: skip
UNEQUAL = {
    "sine and cosine": (lambda x: jnp.sin(x) ** 2 - jnp.cos(x) ** 2, jnp.ones_like, X),
    "a loop that ends early": (of(looped, end=1), lambda x: jnp.sum(numbered(x)), X),
    "a loop of other numbers": (of(looped, step=1), lambda x: jnp.sum(numbered(x)), X),
    **{f"a counter by {by}, reverse={r}": (of(counted, by, r), of(at_once, 3, r), X)
       for by in (1, 2) for r in (False, True)},
    "a running sum": (lax.cumsum, of(sums_so_far, reverse=True), X),
    "a reverse running sum": (of(lax.cumsum, reverse=True), sums_so_far, X),
    "a reverse running maximum": (of(lax.cummax, reverse=True), greatest_so_far, X),
    "the least so far, not the greatest": (lambda x: -lax.cummax(-x), greatest_so_far, X),
    "the greatest of all": (lambda x: jnp.max(x) + 0 * x, greatest_so_far, X),
    "other constants": (lambda x: x @ WEIGHTS.T, of(columns_by, 4.0), {"x": array("n 2")}),
    "a maximum of sums": (largest_is_below, lambda x, b, y: jnp.zeros_like(y, jnp.float32), BIASED),
    "a mean over the chunks alone": (lambda x: jnp.sum(x) / x.shape[0] ** 2,
                                     lambda x: jnp.mean(sum_of(x)), {"x": array("m*c k")}),
    "all but the last": (lambda x: x[1:], lambda x: x[:-1], X),
    "turned round": (lambda x: x[::-1], lambda x: x, X),
    "pairs": (lambda x: x.reshape(2, -1).T, lambda x: x.reshape(-1, 2), {"x": array("2*d")}),
    "moved back": (lambda x: jnp.concatenate([x[1:], x[:1]]), lambda x: x, X),
    "moved on": (lambda x: jnp.concatenate([x[:1], x[:-1]]), lambda x: x, X),
    "padded": (of(lax.pad, 0.0, ((1, 0, 0),)), of(lax.pad, 0.0, ((0, 1, 0),)), X),
    "a sum of what is joined": (lambda x: jnp.sum(jnp.concatenate([x, x[:1]])), jnp.sum, X),
    "a column at labels": (lambda x, y: x[y, 0], lambda x, y: x[y][:, 1], COLUMNS),
    "added to all": (added_at_0, lambda x, y, u: x.at[y].add(u[:, None]), ADDED),
    "the only entry, filled": (of(at_the_only_entry, "fill"),
                               lambda x, y: jnp.broadcast_to(x, y.shape),
                               {"x": array("1"), "y": LABELS}),
    "a mask that keeps a label alone": (lambda x, y, m: jnp.where((y >= 0)[:, None] & m, x, 0),
                                        lambda x, y, m: jnp.where((y >= 0)[:, None], x, 0), KEPT),
}  # fmt: skip
NOT_PROVED = {
    **{f"{ours} beside {other}": (of(where_positive, ours), of(where_positive, other), Z)
       for ours in (-jnp.inf, jnp.inf) for other in (jnp.nan, jnp.inf, -jnp.inf)
       if (ours, other) != (-jnp.inf, -jnp.inf)},
    "a root of 1.414213": (lambda x: x * 1.414213 * jnp.sqrt(2.0), lambda x: 2 * x, X),
    "a split turned": (split, turned, {"x": array("m*c")}),
}  # fmt: skip


@pytest.mark.parametrize(("fun", "wanted", "args"), EQUAL.values(), ids=EQUAL)
def test_equal_values_are_proved(fun, wanted, args):
    verdict = prove_equal(fun, wanted, args)
    assert verdict.proved, verdict


@pytest.mark.parametrize(("fun", "wanted", "args"), UNEQUAL.values(), ids=UNEQUAL)
def test_other_values_are_refuted(fun, wanted, args):
    verdict = prove_equal(fun, wanted, args)
    assert_refuted(verdict)


@pytest.mark.parametrize(("fun", "wanted", "args"), NOT_PROVED.values(), ids=NOT_PROVED)
def test_what_is_not_refuted_is_not_proved_either(fun, wanted, args):
    assert not prove_equal(fun, wanted, args).proved


@pytest.mark.parametrize("other", [jnp.nan, jnp.inf])
def test_infinities_above_and_nan_are_not_claimed(other):
    verdict = prove_equal(of(where_positive, jnp.inf), of(where_positive, other), Z)
    assert "NaN or +inf" in verdict.reason


def test_the_verdict_says_which_constant_is_a_root():
    verdict = prove_equal(lambda x: x * 1.4142135 * jnp.sqrt(2.0), lambda x: 2 * x, X)
    assert verdict.proved and any("1.4142135" in note for note in verdict.assumptions)
