"""A dimension that is a product of named ones: what is read of it, and what is sampled."""

import jax.numpy as jnp
import pytest
from xent_jax.proofs import array, labels, prove_vjp
from xent_jax.proofs._theorems import textbook as book

import xent_jax
from tests import layers

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
