"""Makes the linear head use chunks of a size that a test chooses, and draws masks of tokens."""

import contextlib
from unittest import mock

import jax.numpy as jnp

from xent_jax import _linear_problem
from xent_jax._chunks import Chunks

N, SIZE = 24, 4  # the number of tokens, and of those in a chunk


@contextlib.contextmanager
def chunks_of(size, pieces=1, in_place=False):
    """Makes every head use chunks of ``size`` tokens inside the context, whatever its budget."""
    chunks = Chunks(size, pieces, in_place)
    with mock.patch.object(_linear_problem, "chunks_for", lambda *_: chunks):
        yield


def mask_of(rng, kept):
    """Draws a mask that keeps ``kept`` of the ``N`` tokens."""
    return jnp.asarray(rng.permutation(N) < kept)
