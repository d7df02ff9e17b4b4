"""Train a small classifier of handwritten digits with xent_jax, and look at its gradients.

    pip install "xent-jax[examples]"
    python examples/digits.py

The program trains a two-layer network on scikit-learn's 8 x 8 digits, and measures how accurate the
float32 gradient of the loss is on the test images. It draws digits.png: the training curves and,
for four images, the logits z, the probabilities p = softmax(z) and the gradient p - y.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich
from matplotlib.figure import Figure
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import xent_jax

BATCH, HIDDEN, SEED = 64, 128, 0
BLUE, ORANGE = "#0072B2", "#E69F00"  # told apart by colour-blind eyes too

cross_entropy = xent_jax.softmax_cross_entropy_with_integer_labels
optimizer = optax.adam(2e-3)
# Older versions of JAX keep this context in jax.experimental.
enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64


def initial_params(key):
    init = jax.nn.initializers.he_normal()
    layers = zip(jax.random.split(key), [(64, HIDDEN), (HIDDEN, 10)], strict=True)
    return [(init(key, shape), jnp.zeros(shape[1])) for key, shape in layers]


@jax.jit
@partial(jax.vmap, in_axes=(None, 0))
def network(params, image):
    """Returns the 10 logits of one image of 64 pixels; vmap maps it over a batch."""
    (kernel_1, bias_1), (kernel_2, bias_2) = params
    return jax.nn.relu(image @ kernel_1 + bias_1) @ kernel_2 + bias_2


def mean_loss(params, images, labels):
    return cross_entropy(network(params, images), labels, reduction="mean")


@jax.jit
def train_step(params, state, images, labels):
    loss, gradient = jax.value_and_grad(mean_loss)(params, images, labels)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, updates), state, loss


def train(epochs, images, labels, test_images, test_labels):
    """Returns the trained parameters, and the loss and test accuracy of each epoch."""
    params = initial_params(jax.random.key(SEED))
    state, random, history = optimizer.init(params), np.random.default_rng(SEED), []
    text = TextColumn("epoch {task.completed:.0f}/{task.total:.0f}  {task.description}")
    with Progress(BarColumn(), text) as progress:
        for _ in progress.track(range(epochs), description=""):
            losses = []
            # Only whole batches, because a shorter one would compile the step again.
            order = random.permutation(len(images))[: len(images) // BATCH * BATCH]
            for batch in order.reshape(-1, BATCH):
                params, state, loss = train_step(params, state, images[batch], labels[batch])
                losses.append(loss)
            guesses = network(params, test_images).argmax(axis=-1)
            history.append((np.mean(losses), np.mean(guesses == test_labels)))
            news = "loss {:.4f}  test accuracy {:.3f}".format(*history[-1])
            progress.update(progress.task_ids[0], description=news)
    return params, np.array(history)


def textbook_loss(z, y):
    return -jnp.log(jnp.exp(z[y]) / jnp.sum(jnp.exp(z)))


def logit_gradients(loss, logits, labels):
    """Returns the gradient of each image's loss with respect to its logits."""
    return np.asarray(jax.jit(jax.vmap(jax.grad(loss)))(logits, labels))


def report_exactness(logits, labels):
    """Prints how far the float32 gradients of the logits are from float64 ones."""
    ours = logit_gradients(cross_entropy, logits, labels)
    textbook = logit_gradients(textbook_loss, logits, labels)
    with enable_x64(True):
        exact = logit_gradients(textbook_loss, logits.astype(np.float64), labels)
    ulp = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    at_label = np.arange(10) == labels[:, None]

    rich.print(f"\nfloat32 gradient of the logits, {len(labels)} test images against float64:")
    table = Table("worst error in ulp", "at the label", "at the other classes")
    for name, gradient in {"xent_jax": ours, "textbook formula": textbook}.items():
        error = np.abs(gradient - exact) / ulp
        table.add_row(name, f"{error[at_label].max():,.1f}", f"{error[~at_label].max():,.1f}")
    rich.print(table)

    error = np.where(at_label, np.abs(textbook - exact) / ulp, 0)
    worst = np.unravel_index(error.argmax(), error.shape)
    # A gradient sums to 0 over the classes; what remains is the rounding of the reference.
    doubt = np.max(np.abs(exact.sum(axis=-1)) / ulp[at_label])
    lost = np.log10(error[worst])
    rich.print(
        f"The two differ by at most {np.abs(ours - textbook).max():.1e}: little beside 1, but not "
        f"beside a confident image's gradient. At the label of one {labels[worst[0]]} it is\n"
        f"  {exact[worst]:.6e} in float64, right to {doubt:.1g} ulp of float32\n"
        f"  {ours[worst]:.6e} by xent_jax\n"
        f"  {textbook[worst]:.6e} by the textbook formula: {lost:.1f} digits lost\n"
    )


def draw(path, history, images, labels, logits):
    """Draws the training curves, and logits, probabilities and gradients of four test images."""
    p, n = np.asarray(xent_jax.softmax(logits)), len(labels)
    gradient = logit_gradients(cross_entropy, logits, labels)
    order = np.argsort(p[np.arange(n), labels])

    figure = Figure(figsize=(12, 14), layout="constrained")
    top, below = figure.subfigures(2, 1, height_ratios=(1, 3.6), hspace=0.03)
    curves = top.subplots(1, 2)
    titles = "Training loss, mean over the epoch [nats]", "Accuracy on the test images"
    for axes, title, values in zip(curves, titles, history.T, strict=True):
        axes.plot(np.arange(1, len(values) + 1), values, color=BLUE, marker=".")
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
    curves[0].set_yscale("log")

    below.suptitle("Four test images, from the worst to the surest; the label's bar in orange")
    grid = below.subplots(4, 4, width_ratios=(1, 2, 2, 2))
    names = "logits z", "probabilities p = softmax(z)", "gradient p − y, by jax.grad"
    limits = (logits.min() - 1, logits.max() + 1), (0, 1.05), (-1.05, 1.05)
    for row, i in zip(grid, order[[0, n // 40, n // 15, -1]], strict=True):
        guess, colors = p[i].argmax(), np.where(np.arange(10) == labels[i], ORANGE, BLUE)
        verdict = "right" if guess == labels[i] else "wrong"
        row[0].imshow(images[i].reshape(8, 8), cmap="gray_r")
        row[0].set(title=f"a {labels[i]},\nread as {guess}: {verdict}", xticks=[], yticks=[])
        for axes, name, v, ylim in zip(row[1:], names, (logits, p, gradient), limits, strict=True):
            axes.bar(range(10), v[i], color=colors)
            axes.axhline(0, color="black", linewidth=0.8)
            title = f"{name}\nat the label: {v[i, labels[i]]:.3g}"
            axes.set(title=title, xticks=range(10), xlabel="class", ylim=ylim)
    figure.savefig(path, dpi=110, bbox_inches="tight", pad_inches=0.2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=40, metavar="N", help="default: %(default)s")
    output, text = Path(__file__).with_suffix(".png"), "the picture; default: next to the program"
    parser.add_argument("--output", type=Path, default=output, metavar="PATH", help=text)
    args = parser.parse_args()
    if args.epochs < 1:
        parser.error("--epochs must be at least 1")

    digits = load_digits()
    images, labels = (digits.data / 16).astype(np.float32), digits.target.astype(np.int32)
    images, test_images, labels, test_labels = train_test_split(
        images, labels, test_size=0.25, random_state=SEED, stratify=labels
    )
    params, history = train(args.epochs, images, labels, test_images, test_labels)
    logits = np.asarray(network(params, test_images))
    report_exactness(logits, test_labels)
    draw(args.output, history, test_images, test_labels, logits)
    print(f"wrote {args.output}\ntest accuracy {history[-1, 1]:.3f}")
    if history[-1, 1] < 0.95:
        sys.exit("The test accuracy is below 0.95: train for more epochs.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
