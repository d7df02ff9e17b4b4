"""Train an Equinox model with tied embeddings, without holding all its logits.

    pip install "xent-jax[examples]"
    python examples/equinox_head.py

The words follow Zipf's law, and each has one fixed successor, which the model learns. The
embedding, [words, width], is also the kernel of the last layer, and its gradient is the sum of both
uses.
"""

import argparse
import math
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from rich.progress import track

import xent_jax

VOCABULARY, WIDTH, BATCH, SEED = 32_768, 64, 1024, 0
optimizer = optax.adam(1e-2)


class Model(eqx.Module):
    """Maps a word to the hidden state that predicts the next word."""

    embedding: eqx.nn.Embedding
    network: eqx.nn.MLP

    def __init__(self, key):
        keys = jax.random.split(key)
        table = jax.random.normal(keys[0], (VOCABULARY, WIDTH)) / math.sqrt(WIDTH)
        self.embedding = eqx.nn.Embedding(weight=table)
        self.network = eqx.nn.MLP(WIDTH, WIDTH, 2 * WIDTH, depth=1, key=keys[1])

    def __call__(self, word):
        """Returns the hidden state [WIDTH]."""
        return self.network(self.embedding(word))


def mean_loss(model, words, labels):
    return xent_jax.linear_softmax_cross_entropy(
        jax.vmap(model)(words), model.embedding.weight, labels, kernel_axes="VD"
    )


@eqx.filter_jit
def train_step(model, state, words, labels):
    loss, gradient = eqx.filter_value_and_grad(mean_loss)(model, words, labels)
    updates, state = optimizer.update(gradient, state)
    return eqx.apply_updates(model, updates), state, loss


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="10 steps in place of 100")
    steps = 10 if parser.parse_args().smoke else 100

    keys = jax.random.split(jax.random.key(SEED), steps + 2)
    successor, model = jax.random.permutation(keys[0], VOCABULARY), Model(keys[1])
    state, losses = optimizer.init(eqx.filter(model, eqx.is_array)), []
    for key in track(keys[2:], description="training"):
        logarithm = jax.random.uniform(key, (BATCH,), maxval=math.log(VOCABULARY))
        words = jnp.exp(logarithm).astype(jnp.int32) - 1
        model, state, loss = train_step(model, state, words, successor[words])
        losses.append(float(loss))
    print(f"loss {losses[0]:.4f} -> {losses[-1]:.4f}")
    if not losses[-1] < losses[0]:
        sys.exit("The loss did not fall: train for more steps.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
