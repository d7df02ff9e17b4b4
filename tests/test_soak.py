"""In ten thousand training steps, memory does not grow and nothing is traced again."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.conftest import resident, return_freed_memory
from tests.programs import compilations

STEPS, TOKENS, WIDTH, CLASSES = 10_000, 16, 8, 32
SLACK = 4 * 2**20  # for the allocator; a leak of 0.6 KiB a step would be more


def of_logits(kernel, x, y):
    options = {"ignore_index": -100, "label_smoothing": 0.1, "z_loss": 1e-4, "reduction": "mean"}
    return xent_jax.softmax_cross_entropy_with_integer_labels(x @ kernel, y, **options)


def of_the_head(kernel, x, y):
    options = {"ignore_index": -100, "label_smoothing": 0.1, "z_loss": jnp.float32(1e-4)}
    return xent_jax.linear_softmax_cross_entropy(
        x, kernel, y, max_logits_bytes=5 * 8 * CLASSES, **options
    )


losses = pytest.mark.parametrize("loss", [of_logits, of_the_head])


class Trainer:
    """Gradient descent that counts how often Python runs its loss."""

    def __init__(self, loss):
        self.loss, self.traced = loss, 0
        rng = np.random.default_rng(0)
        self.x = jnp.asarray(rng.normal(size=(TOKENS, WIDTH)), jnp.float32)
        self.labels = rng.integers(0, CLASSES, (TOKENS,)).astype(np.int32)
        self.labels[3] = -100
        self.kernel = jnp.zeros((WIDTH, CLASSES))

    def step(self, kernel, x, y):
        self.traced += 1
        value, gradient = jax.value_and_grad(self.loss)(kernel, x, y)
        return kernel - 0.1 * gradient, value

    def run(self, step, count):
        """Returns the last loss; at each step the labels come from the host, as in training."""
        for _ in range(count):
            self.kernel, value = step(self.kernel, self.x, jnp.asarray(self.labels))
        return float(value)


def held():
    """Returns the resident memory in bytes, and the number of live arrays."""
    gc.collect()
    return_freed_memory()
    return resident(), len(jax.live_arrays())


@pytest.mark.slow
@losses
def test_memory_does_not_grow(loss):
    """The first quarter of the steps warms up; memory is compared from its end to the last step."""
    trainer = Trainer(loss)
    step = jax.jit(trainer.step)
    trainer.run(step, STEPS // 4)
    bytes_before, arrays_before = held()
    value = trainer.run(step, 3 * STEPS // 4)
    bytes_after, arrays_after = held()
    assert bytes_after - bytes_before < SLACK
    assert arrays_after == arrays_before
    assert trainer.traced == 1
    assert value < loss(jnp.zeros((WIDTH, CLASSES)), trainer.x, trainer.labels)  # it has trained


@pytest.mark.fast_compile
@losses
def test_eager_steps_compile_nothing(loss):
    """Only the first steps compile, although the head's loop is made of new functions each time."""
    trainer = Trainer(loss)
    trainer.run(trainer.step, 2)
    _, arrays = held()
    with compilations() as found:
        trainer.run(trainer.step, 50)
    assert not found
    assert held()[1] == arrays
