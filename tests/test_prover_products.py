"""A dimension may be a product of named ones; samples respect it and vary permutations."""

import collections
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from xent_jax.proofs import array, labels, permutation, prove_vjp
from xent_jax.proofs._refutation.samples import samples
from xent_jax.proofs._theorems import textbook as book

import xent_jax
from tests import layers

SHUFFLED = {"x": array("n"), "p": permutation("n")}
SPECS = {"z": array("m*c k"), "y": labels("m*c", classes="k")}


def _mean(z, y):
    return xent_jax.softmax_cross_entropy_with_integer_labels(z, y, reduction="mean")


def test_a_mean_over_chunks_times_size_is_proved():
    def reference(z, y):
        return jnp.mean(book.logsumexp(z) - book.at_label(z, y))

    verdict = prove_vjp(_mean, SPECS, ("z",), reference)
    assert verdict.proved, verdict.reason
    assert {"m is at least 1", "c is at least 1", "k is at least 1"} <= set(verdict.assumptions)
    assert not any(a.startswith("m*c") for a in verdict.assumptions)


def test_a_product_with_a_number_is_traced():
    def halves(z):
        return jnp.sum(z) / z.shape[0]

    verdict = prove_vjp(halves, {"z": array("2*m")}, ("z",), jnp.mean)
    assert verdict.proved, verdict.reason


@pytest.mark.slow
def test_a_flat_batch_of_tokens_has_the_loss_of_its_rows():
    def flat(z, y):
        return jnp.mean(layers.cross_entropy(z.reshape(-1, z.shape[-1]), y.reshape(-1)))

    def rows(z, y):
        return jnp.mean(book.logsumexp(z) - book.at_label(z, y))

    args = {"z": array("b t v"), "y": labels("b t", classes="v")}
    assert prove_vjp(flat, args, ("z",), rows).proved


@pytest.mark.parametrize("dims", ["m*", "*m", "m**c", "0*m", "m+c"])
def test_what_is_not_a_product_is_an_error(dims):
    with pytest.raises(ValueError, match="names, numbers or products"):
        array(dims)


# ---------------------------------------------------------------- what is tried


def test_samples_have_the_product_of_the_factors_sizes():
    rng = np.random.default_rng(0)
    drawn = list(samples(SPECS | {"b": array("m c")}, rng))
    assert all(x["z"].shape[0] == x["b"].size for x in drawn)
    assert all(x["y"].shape == x["z"].shape[:1] for x in drawn)
    assert any(len(set(x["b"].shape)) == 2 for x in drawn)  # m and c also differ


def orders(n):
    return set(itertools.permutations(range(n)))


def test_all_permutations_are_tried_of_few_rows_and_some_of_many():
    def tried(args, least=None):
        found = collections.defaultdict(set)
        for drawn in samples(args, np.random.default_rng(0), least):
            found[len(drawn["p"])].add(tuple(drawn["p"].tolist()))
            assert drawn["p"].dtype == args["p"].dtype
        return found

    for n, found in tried({"p": permutation("n", dtype=np.int8)}).items():
        assert found == orders(n)
    many = tried(SHUFFLED, {"n": 7})[7]
    assert {tuple(range(7)), tuple(range(7))[::-1]} < many < orders(7) and len(many) > 4
