"""Code that the prover does not read is refused by name, and nearly the same code is proved."""

import re
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, nn
from xent_jax.proofs import array, labels, permutation, prove_equal, prove_vjp, scalar

ROW, MATRIX = {"x": array("n")}, {"x": array("n k")}
CHOICE = MATRIX | {"y": labels("n", classes="k")}
PUT = {"x": array("k"), "y": labels("n", classes="k"), "v": array("n")}
UNSIGNED = ROW | {"u": array("n", dtype=np.uint32)}
SMALL = ROW | {"u": array("n", dtype=jnp.int8)}


class Code(NamedTuple):
    """A function, its arguments, the reason or assumption in its verdict, and its least sizes."""

    fun: Any
    args: dict
    reason: str = ""
    least: dict | None = None


def shuffled(x, p):
    return x[p]


def scanned(body, start=1.0):
    """Returns a function that scans x and returns the outputs, or the carry if there are none."""

    def fun(x):
        last, rows = lax.scan(body, start, x)
        return last if rows is None else rows

    return fun


def beside_a_carry(carry, a):
    s, t = carry
    return (s + a, t + s), None


def added_in_slices(x, shift):
    m, c = jax.export.symbolic_shape("m, c", scope=x.shape[0].scope)

    def body(s, i):
        return s + jnp.sum(lax.dynamic_slice_in_dim(x, i * c + shift, c)), None

    return lax.scan(body, jnp.zeros(()), jnp.arange(m))[0]


def two_slices(x):
    return lax.dynamic_slice(x, (1,), (x.shape[0] - 1,)) * lax.dynamic_slice(x, (2,), (1,))


def over_the_others(x):
    return 1 / jnp.sum(jnp.exp(x[1:]))


def added_where_counted(x, u, step):
    return x.at[step * jnp.arange(u.shape[0])].add(u, unique_indices=True, mode="clip")


def doubled(x, default):
    return lax.platform_dependent(x, cpu=lambda x: x + x, default=default)


def times_a_product(x, dtype):
    return x * jnp.prod(jnp.arange(3, dtype=dtype) + 1, dtype=dtype)


REFUSED = {
    "bits of labels": Code(lambda x, y: x[:, 0] * (y & (y + 1)), CHOICE, "bits of integers"),
    "cumprod": Code(lambda x: lax.cumprod(x, 1), MATRIX, "cumprod"),
    "sort": Code(lambda x: jnp.sort(x, -1), MATRIX, "sort"),
    "erf_inv": Code(lambda x: jax.scipy.special.erfinv(x), MATRIX, "erf_inv"),
    "a quotient": Code(lambda x: 1 / x, MATRIX, "may be NaN"),
    "a loop of products": Code(
        lambda x: lax.fori_loop(0, 3, lambda i, x: x * i, x), MATRIX, "scan"),
    "a divisor": Code(lambda x, c: jnp.tanh(x / c), ROW | {"c": scalar()}, "may be NaN"),
    "a column": Code(lambda x: x[:, 1], MATRIX, "clamped"),
    "multiplied at a place": Code(lambda x: x.at[0].multiply(2), MATRIX, "scatter-mul"),
    "int8": Code(lambda x: x * jnp.arange(x.shape[1], dtype=jnp.int8), MATRIX, "int8"),
    "another platform": Code(lambda x: doubled(x, lambda x: x * x), ROW, "platform"),
    "labels out of range": Code(
        lambda x, y: jnp.take_along_axis(x, y[:, None] + 1, -1, mode="clip"), CHOICE, "clamped"),
    "an index beyond an axis": Code(
        shuffled, {"x": array("m"), "p": permutation("n")}, "it may be clamped"),
    "places that may be the same": Code(lambda x, y, v: x.at[y].set(v), PUT, ""),
    "a product of any sign": Code(
        lambda x: jnp.prod(x, -1), MATRIX,
        "a product over an axis of x.*, which is not known to be positive"),
    "a shift by many": Code(lambda x: jnp.roll(x, 20), ROW, "needs a least one"),
    "an angle": Code(lambda x: jnp.arctan2(x, x), ROW,
                     "an angle beside x.*, which is not known to be"),
    "one less relu": Code(lambda x: 1 / (1 - nn.relu(x)), ROW,
                          "which is not known to differ from 0"),
    # Integers that may overflow.
    "a sum of int8": Code(lambda x, u: x * jnp.sum(u, dtype=jnp.int8), SMALL,
                          "a sum or product in int8, which may overflow"),
    "a product of int8": Code(lambda x, u: x * jnp.dot(u, u), SMALL,
                              "a sum or product in int8, which may overflow"),
    "a product of int16": Code(lambda x: times_a_product(x, jnp.int16), ROW, "int16"),
    "one less": Code(lambda x, u: x * (u - 1), UNSIGNED, "uint32, which may overflow"),
    "the opposite": Code(lambda x, u: x * -u, UNSIGNED, "uint32, which may overflow"),
    "0 less": Code(lambda x, u: x * (u + (0 - u)), UNSIGNED, "uint32, which may overflow"),
    # Tangents that are at a pole for many arguments.
    "a tangent of 0": Code(lambda x: x * jnp.tan(x[0] - x), ROW, "may be at a pole"),
    "a tangent of 1.5": Code(lambda x: x * jnp.tan(0 * x + 1.5), ROW, "may be at a pole"),
    "a tangent of a sum": Code(lambda x: x * jnp.tan(jnp.sum(x[:-1])), ROW, "may be at a pole"),
    "a tangent of a number": Code(
        lambda x: x * jnp.tan(1.0 * jnp.arange(x.shape[0])), ROW, "may be at a pole"),
    # Loops.
    "an integer doubled": Code(scanned(lambda t, row: (2 * t, row * t), 1), ROW),
    "an integer that stops": Code(scanned(lambda t, row: (t + (t > 3), row * t), 1), ROW),
    "an integer at least 3": Code(scanned(lambda t, row: (jnp.maximum(t, 3), row * t), 1), ROW),
    "a while loop": Code(
        lambda x: lax.while_loop(lambda t: t < 3.0, lambda t: t + 1.0, jnp.zeros(())) + x, ROW,
        "as long as a count"),
    "a carry times a row": Code(
        scanned(lambda s, a: (s * a, None)), ROW, "not itself plus a term free.*"),
    "a carry in its term": Code(
        scanned(lambda s, a: (s + s * a, None)), ROW, "not itself plus a term free"),
    "a carry put anew": Code(scanned(lambda s, a: (a, None)), ROW, "not itself plus a term free"),
    "a maximum so far": Code(scanned(lambda s, a: (jnp.maximum(s, a), None)), ROW, "scan"),
    "a carry returned": Code(scanned(lambda s, a: (s + a, s)), ROW, "in which a carry stands"),
    "a carry beside another": Code(
        lambda x: scanned(beside_a_carry, (0.0, 0.0))(x)[1], ROW),
    # Code that is refused because of some sizes alone.
    "a slice that may be moved": Code(two_slices, ROW, "clamped", {"n": 2}),
    "a sum that may be empty": Code(over_the_others, ROW, least={"n": 1}),
    "slices moved by one": Code(lambda x: added_in_slices(x, 1), {"x": array("m*c")}, "clamped"),
    "indices that are the same": Code(
        lambda x, u: added_where_counted(x, u, 0), ROW | {"u": array("n")}),
    # Outputs.
    "an index": Code(lambda x: (x, jnp.argmax(x)), ROW),
    "integers": Code(lambda x: (x, jnp.arange(3)), ROW, "int32"),
}  # fmt: skip
BITS = "integer arithmetic does not leave 32 bits"
PROVED = {
    "a platform": Code(lambda x: doubled(x, lambda x: 2 * x), ROW),
    "an index in range": Code(shuffled, {"x": array("2*n"), "p": permutation("n")}),
    "a product of int32": Code(lambda x: times_a_product(x, jnp.int32), ROW, BITS),
    "one more": Code(lambda x, u: x * (u * u + 1), UNSIGNED, BITS),
    "a sum that is not empty": Code(over_the_others, ROW, least={"n": 2}),
    "indices that are counted": Code(
        lambda x, u: added_where_counted(x, u, 1), ROW | {"u": array("n")}),
    "a positive divisor": Code(
        lambda x, c: jnp.tanh(x / c), ROW | {"c": scalar(positive=True)}, "c is positive"),
}  # fmt: skip


def verdict_on(code):
    return prove_vjp(code.fun, code.args, ("x",), least=code.least, search=False)


@pytest.mark.parametrize("code", REFUSED.values(), ids=REFUSED)
def test_what_is_not_read_is_refused(code, monkeypatch):
    monkeypatch.setattr("xent_jax.proofs._prover.counterexample.vjp", lambda *_: None)
    verdict = verdict_on(code)
    assert verdict.status == "refused", verdict
    assert re.search(code.reason, verdict.reason), verdict.reason
    of_values = verdict.reason.startswith(("the value may be NaN", "an output of int32"))
    assert of_values or __file__ in verdict.reason  # all other reasons name a line


@pytest.mark.parametrize("code", PROVED.values(), ids=PROVED)
def test_what_is_read_is_proved(code):
    verdict = verdict_on(code)
    assert verdict.proved, verdict
    assert code.reason in "; ".join(verdict.assumptions)


def test_slices_in_range_are_read():
    assert prove_equal(two_slices, two_slices, ROW, least={"n": 3}).proved
    assert prove_equal(lambda x: added_in_slices(x, 0), jnp.sum, {"x": array("m*c")}).proved
