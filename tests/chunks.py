"""Makes the linear head use chunks of a size that a test chooses, and leave out tokens."""

import contextlib
from unittest import mock

import jax.numpy as jnp

from xent_jax import _linear_problem
from xent_jax._chunks import Chunks

N, SIZE = 24, 4  # tokens, and those of a chunk


@contextlib.contextmanager
def chunks_of(size, pieces=1, in_place=False):
    """Lets every head divide its tokens into chunks of that many, whatever the sizes."""
    chunks = Chunks(size, pieces, in_place)
    with mock.patch.object(_linear_problem, "chunks_for", lambda *_: chunks):
        yield


def mask_of(rng, kept):
    """A mask that keeps so many of the ``N`` tokens, at drawn places."""
    return jnp.asarray(rng.permutation(N) < kept)
