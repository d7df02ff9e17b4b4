"""For sharded classes, no wrong merge is proved, and no rule that holds for small indices only."""

# ruff: noqa: E402

import functools
from fractions import Fraction

import jax.numpy as jnp
import pytest
from jax import lax

pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")

from xent_jax.proofs import _normal_form as f
from xent_jax.proofs import array, labels, prove_equal, prove_vjp
from xent_jax.proofs._normal_form import Symbol, atom, delta, entry, index, poly, positive, total
from xent_jax.proofs._theorems import textbook_parts as book
from xent_jax.proofs._theorems.in_shards import in_shards
from xent_jax.proofs._theorems.shards import CASES
from xent_jax.proofs._theorems.theorem import theorems_of

from tests.second_engine.concrete import prove_concrete
from xent_jax import _rows, _shards

pytestmark = pytest.mark.fast_compile

GRADIENTS = {(c.function, c.options): theorems_of(c)[0] for c in CASES}
INTEGER = GRADIENTS["softmax_cross_entropy_with_integer_labels", "classes in shards"]
SOFTMAX = GRADIENTS["softmax", "classes in shards"]
HEAD = GRADIENTS["linear_softmax_cross_entropy", "classes in shards, mean"]
SMALL = [{"n": 1, "k": 2, "m": 2, "s": 1, "d": 1}]


def by_small_sizes(theorem):
    b = theorem.build
    return prove_concrete(b.fun, b.args, b.wrt, b.reference, SMALL)


# ---------------------------------------------------------------- wrong code


def local(shards, x):
    return x


def without(change):
    """Returns the name of a collective and a function that leaves it out."""
    return {
        "the maximum of the maxima": ("pmax", local),
        "the sum of the sums": ("psum", local),
        "the sum of the cotangents": ("cotangent", local),
        "the shard's first class": ("first_class", lambda shards, size: 0),
    }[change]


CHANGES = [
    (INTEGER, "the sum of the sums"),
    (INTEGER, "the sum of the cotangents"),
    (INTEGER, "the shard's first class"),
    (SOFTMAX, "the sum of the sums"),
    (SOFTMAX, "the maximum of the maxima"),
    (HEAD, "the sum of the cotangents"),
]


@pytest.mark.parametrize("theorem, change", CHANGES, ids=lambda x: getattr(x, "function", x))
@pytest.mark.parametrize("engine", ["all sizes", "small sizes"])
def test_a_dropped_collective_is_not_proved(theorem, change, engine, monkeypatch, spoil):
    for search in ("vjp", "jvp"):
        monkeypatch.setattr(f"xent_jax.proofs._prover.counterexample.{search}", lambda *_: None)
    spoil(_shards.Shards, *without(change))
    verdict = theorem.prove() if engine == "all sizes" else by_small_sizes(theorem)
    assert not verdict.proved


def test_a_dropped_sum_of_the_cotangents_is_refuted(spoil):
    spoil(_shards.Shards, *without("the sum of the cotangents"))
    verdict = INTEGER.prove()
    assert verdict.status == "refuted" and verdict.counterexample["z"].shape[0] > 1


def test_sums_relative_to_each_shards_own_maximum_are_not_proved(spoil):
    shift = _rows.row_shift
    spoil("xent_jax._weighted.row_shift", lambda z, shards, examples: shift(z))
    assert INTEGER.prove().status == "refuted"


def logsumexp(change=""):
    """Returns log-sum-exp by sums relative to each shard's maximum, rescaled to the largest."""

    def merged(_, z):
        own = lax.stop_gradient(jnp.max(z, -1))
        m = lax.pmax(own, "m")
        rescale = jnp.exp(m - own) if change == "rescaled the wrong way" else jnp.exp(own - m)
        sums = rescale * jnp.sum(jnp.exp(z - own[:, None]), -1)
        return m + jnp.log(lax.psum(sums, "m"))

    return in_shards(merged, "m")


@pytest.mark.parametrize("change", ["", "rescaled the wrong way"])
def test_rescaled_sums(change):
    """The gradient is JAX's own, through the transpose of psum in each shard."""

    def reference(z):
        return jnp.broadcast_to(book.logsumexp(z, over=book.SHARDS), z.shape[:2])

    verdict = prove_vjp(logsumexp(change), {"z": array("m n k")}, ("z",), reference)
    assert verdict.proved == (not change), verdict.reason


# ---------------------------------------------------------------- labels among all classes

M, K = (poly(atom("dim", name, 1)) for name in "mk")
S, J = index("s", M), index("j", K)
Q, R = (entry(Symbol(name, "index", dim)) for name, dim in (("q", M), ("r", K)))
OTHER = entry(Symbol("r", "index", poly(atom("dim", "l", 1))))
WHOLE = entry(Symbol("r", "integer"))


def test_a_class_is_a_shard_and_a_place():
    (q,), (r,) = Q.atoms(), R.atoms()
    assert f.is_zero(poly(S) * K + poly(J) - Q * K - R) == delta(S, q) * delta(J, r)


@pytest.mark.parametrize("place", [OTHER, WHOLE, 2 * R, R + 1, R * R], ids=str)
def test_a_place_that_may_be_in_another_shard_is_not(place):
    (whole,) = f.is_zero(poly(S) * K + poly(J) - Q * K - place).atoms()
    assert {S, J} <= whole.free  # one equation of both, not one for each


def test_a_label_is_in_the_shard_that_holds_it():
    relative = Q * K + R - poly(S) * K
    below, above = f.greater(K - relative), 1 - f.greater(-relative)
    (q,) = Q.atoms()
    assert below * above == delta(S, q)


@pytest.mark.parametrize("place", [OTHER, WHOLE, 2 * R], ids=str)
def test_a_label_that_may_be_beyond_its_shard_is_not(place):
    relative = Q * K + place - poly(S) * K
    (a,) = f.greater(K - relative).atoms()
    assert a.kind == "positive" and a.args[0] in (K - relative, relative - K)


def test_labels_are_below_the_number_of_classes():
    assert positive(M * K - Q * K - R)
    for term in (M * K - Q * K - R - 1, M * K - Q * K - OTHER, M * K - Q * M - R):
        assert not positive(term)


@pytest.mark.parametrize("gap", [0, 1])
def test_labels_of_two_digits_are_read(gap):
    """The logit at a label is read, and differs from the logit of the class after it."""

    def own(z, y):
        number = jnp.arange(z.shape[0])[:, None, None] * z.shape[2] + jnp.arange(z.shape[2])
        return jnp.sum(jnp.where(number == y[:, None] + gap, z, 0.0), (0, 2))

    specs = {"z": array("m n k"), "y": labels("n", classes="m*k")}
    verdict = prove_equal(own, functools.partial(book.at_label, over=book.SHARDS), specs)
    assert verdict.status == ("refuted" if gap else "proved"), verdict


# ---------------------------------------------------------------- sums in one another

Z = Symbol("z", "real")


def sums(body):
    return total(total(body(S, J), J), S)


def test_a_sum_over_shards_and_classes_is_above_one_term_if_there_are_two():
    def above(least):
        k = poly(atom("dim", "k2", least))
        j = index("j", k)
        e = functools.partial(lambda s, j: f.exp(entry(Z, s, j)))
        (r,) = entry(Symbol("r", "index", k)).atoms()
        (q,) = Q.atoms()
        return positive(total(total(e(S, j), j), S) - e(q, r))

    assert above(2) and not above(1)


def test_at_most_one_class_of_all_shards_has_more_than_half():
    def e(s, j):
        return f.exp(entry(Z, s, j))

    def dominant(s, j, share=1):
        return f.greater(2 * e(s, j) - share * sums(e))

    many = sums(dominant)
    assert many * many == many
    assert dominant(S, J) * many == dominant(S, J)
    t, i = index("t", M), index("i", K)
    assert dominant(S, J) * dominant(t, i) == dominant(S, J) * delta(S, t) * delta(J, i)
    half = functools.partial(dominant, share=poly(1) * Fraction(1, 2))
    assert half(S, J) * half(t, i) != half(S, J) * delta(S, t) * delta(J, i)


def test_a_class_is_left_where_one_is_in_some_shard():
    kept = Symbol("kept", "boolean")
    some = total(1 - f.is_zero(total(entry(kept, S, J), J)), S)
    assert f.greater(some) == 1 - f.is_zero(sums(lambda s, j: entry(kept, s, j)))
    signed = total(1 - f.is_zero(total(entry(Z, S, J), J)), S)
    assert f.greater(signed) != 1 - f.is_zero(sums(lambda s, j: entry(Z, s, j)))
