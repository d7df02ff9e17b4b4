"""Makes the linear head use chunks of a size that a test chooses."""

import contextlib
from unittest import mock

from xent_jax import _linear_problem
from xent_jax._chunks import Chunks


@contextlib.contextmanager
def chunks_of(size, pieces=1, in_place=False):
    """Lets every head divide its tokens into chunks of that many, whatever the sizes."""
    chunks = Chunks(size, pieces, in_place)
    with mock.patch.object(_linear_problem, "chunks_for", lambda *_: chunks):
        yield
