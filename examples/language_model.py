"""Train a language model without holding all its logits, beside one that holds them.

    pip install "xent-jax[examples]"
    python examples/language_model.py

The program trains a small causal transformer on the source of Python's standard library, with a
vocabulary of 32,768 words. The loss is made with ``xent_jax.with_linear_head``: it takes the hidden
states and the kernel of the last layer, never holds all logits, and returns the accuracy from the
same pass. On the same batches, the program also trains the same model with a loss of all logits. It
compares the loss curves, the speed and the memory of the two, and draws language_model.png. With
``--smoke`` it takes seconds.
"""

import argparse
import os
import re
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich
from flax import nnx
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

import xent_jax

WIDTH, HEADS, BLOCKS, CONTEXT, SEED = 128, 4, 2, 64, 0
LEARNING_RATE, EVALUATIONS, TEST_BATCHES = 4e-3, 6, 4
TOLERANCE = 1e-3  # relative difference of the two curves
UNKNOWN = 0
HEAD, LOGITS = "with the head", "with all logits"
BLUE, ORANGE = "#0072B2", "#E69F00"  # told apart by colour-blind eyes too


class Size(NamedTuple):
    """The size of a run."""

    vocabulary: int  # words, the unknown one included
    files: int | None  # of the standard library; None means all
    batch: int  # windows of CONTEXT words
    steps: int
    max_logits_bytes: int | None  # option of the head; None is its default


FULL = Size(32_768, None, 32, 60, None)
SMOKE = Size(4_096, 40, 16, 8, 2**22)  # the default would hold all these small logits


class Block(nnx.Module):
    """A layer of causal attention, followed by a network of two layers."""

    def __init__(self, rngs):
        self.norm = nnx.RMSNorm(WIDTH, rngs=rngs)
        self.queries_keys_values = nnx.Linear(WIDTH, 3 * WIDTH, rngs=rngs)
        self.mixed = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.network = nnx.Sequential(
            nnx.RMSNorm(WIDTH, rngs=rngs),
            nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs),
            nnx.gelu,
            nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs),
        )

    def __call__(self, x):
        """Returns the hidden states [batch, words, WIDTH] after the block."""
        by_head = self.queries_keys_values(self.norm(x)).reshape(*x.shape[:2], HEADS, -1)
        query, key, value = jnp.split(by_head, 3, axis=-1)
        attended = jax.nn.dot_product_attention(query, key, value, is_causal=True)
        x = x + self.mixed(attended.reshape(x.shape))
        return x + self.network(x)


class Transformer(nnx.Module):
    """Maps words to hidden states, and holds the kernel of the logits."""

    def __init__(self, vocabulary, rngs):
        self.words = nnx.Embed(vocabulary, WIDTH, rngs=rngs)
        self.positions = nnx.Embed(CONTEXT, WIDTH, rngs=rngs)
        blocks = [Block(rngs) for _ in range(BLOCKS)]
        self.layers = nnx.Sequential(*blocks, nnx.RMSNorm(WIDTH, rngs=rngs))
        small = nnx.initializers.normal(0.02)  # all words are about equally likely at first
        self.head = nnx.Linear(WIDTH, vocabulary, use_bias=False, kernel_init=small, rngs=rngs)

    def __call__(self, words):
        """Returns the hidden states [batch, words, WIDTH]."""
        return self.layers(self.words(words) + self.positions(jnp.arange(words.shape[1])))


def of_tokens(logits, labels):
    """Returns the loss of each token, and whether its most likely word is the right one."""
    losses = xent_jax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses, jnp.argmax(logits, axis=-1) == labels


def head_loss(hidden, kernel, labels, max_logits_bytes=None):
    head = xent_jax.with_linear_head(of_tokens, has_aux=True, max_logits_bytes=max_logits_bytes)
    return head(hidden, kernel, labels)


def logits_loss(hidden, kernel, labels):
    losses, right = of_tokens(hidden @ kernel, labels)
    return losses.mean(), right


class Run:
    """A model that is trained with one of the two losses."""

    def __init__(self, loss, batch, classes, steps):
        graph, self.params = nnx.split(Transformer(classes, nnx.Rngs(SEED)))
        schedule = optax.warmup_cosine_decay_schedule(
            LEARNING_RATE / 10, LEARNING_RATE, warmup_steps=steps // 10, decay_steps=steps
        )
        optimizer = optax.adamw(schedule)
        self.state = optimizer.init(self.params)
        self.losses, self.accuracies, self.seconds_per_token = [], [], []

        def mean_loss(params, windows):
            model = nnx.merge(graph, params)
            # One axis of tokens: XLA:CPU makes two more copies of [batch, words, vocabulary].
            hidden = model(windows[:, :-1]).reshape(-1, WIDTH)
            value, right = loss(hidden, model.head.kernel, windows[:, 1:].reshape(-1))
            return value, right.mean()

        def step(params, state, windows):
            found, gradient = jax.value_and_grad(mean_loss, has_aux=True)(params, windows)
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state, *found

        windows = jax.ShapeDtypeStruct((batch, CONTEXT + 1), jnp.int32)
        self.mean_loss = jax.jit(mean_loss)
        self.step = jax.jit(step).lower(self.params, self.state, windows).compile()
        # This memory comes on top of the arguments and the results.
        self.temporary_mib = self.step.memory_analysis().temp_size_in_bytes / 2**20

    def train(self, windows):
        """Takes one step on a batch, and records its loss, accuracy and time."""
        start = time.perf_counter()
        result = self.step(self.params, self.state, windows)
        self.params, self.state, loss, accuracy = jax.block_until_ready(result)
        self.seconds_per_token.append((time.perf_counter() - start) / windows[:, 1:].size)
        self.losses.append(float(loss))
        self.accuracies.append(float(accuracy))

    def perplexity(self, batches):
        """Returns the exponential of the mean loss over some batches."""
        losses = [self.mean_loss(self.params, windows)[0] for windows in batches]
        return float(np.exp(np.mean(losses)))

    @property
    def tokens_per_second(self):
        """The speed of the median step."""
        return 1 / np.median(self.seconds_per_token)


def read_words(files):
    """Returns the words and marks of each file of the standard library, without its tests."""
    root = Path(os.__file__).parent
    others = {"site-packages", "dist-packages", "test", "tests"}
    paths = [p for p in sorted(root.rglob("*.py")) if others.isdisjoint(p.relative_to(root).parts)]
    return [re.findall(r"\w+|[^\w\s]", p.read_text("utf-8", "replace")) for p in paths[:files]]


def corpus(size):
    """Returns the word numbers to train on, those held out (each tenth file), and their number."""
    texts = read_words(size.files)
    held_out = [word for text in texts[9::10] for word in text]
    training = [word for i, text in enumerate(texts) if i % 10 != 9 for word in text]
    common = Counter(training).most_common(size.vocabulary - 1)
    numbers = {word: i for i, (word, _) in enumerate(common, UNKNOWN + 1)}
    encoded = [
        np.array([numbers.get(word, UNKNOWN) for word in words], np.int32)
        for words in (training, held_out)
    ]
    for name, words in zip(("to train on", "held out"), encoded, strict=True):
        print(f"{len(words):9,} words {name}, {np.mean(words == UNKNOWN):.2%} of them unknown")
    return *encoded, len(numbers) + 1


def draw_windows(random, words, batch):
    """Returns windows of CONTEXT words and the next word, ``[batch, CONTEXT + 1]``."""
    starts = random.integers(len(words) - CONTEXT, size=(batch, 1))
    return words[starts + np.arange(CONTEXT + 1)]


def train(runs, steps, batch, words, held_out):
    """Trains the runs in turn on each batch; returns the held-out perplexity by step."""
    random, history = np.random.default_rng(SEED), {}
    test = [draw_windows(random, held_out, batch) for _ in range(TEST_BATCHES)]
    text, news = TextColumn("{task.description:15}"), TextColumn("{task.fields[news]}")
    with Progress(text, BarColumn(20), MofNCompleteColumn(), news) as progress:
        tasks = {name: progress.add_task(name, total=steps, news="") for name in runs}
        for done in range(steps + 1):
            if done > 0:
                windows = draw_windows(random, words, batch)
                for name, run in runs.items():
                    run.train(windows)
                    text = f"loss {run.losses[-1]:.4f}  accuracy {run.accuracies[-1]:.1%}"
                    text += f"  {run.tokens_per_second:,.0f} tokens/s"
                    progress.update(tasks[name], advance=1, news=text)
            if done % -(-steps // EVALUATIONS) == 0 or done == steps:
                history[done] = runs[HEAD].perplexity(test)
                progress.print(f"step {done:3}  held-out perplexity {history[done]:8,.1f}")
    return history


def report(runs):
    """Prints the speed, memory, last loss and last accuracy of both runs."""
    table = Table("", "tokens/s", "temporary memory", "last loss", "last accuracy")
    for name, run in runs.items():
        memory, loss = f"{run.temporary_mib:,.0f} MiB", f"{run.losses[-1]:.6f}"
        accuracy = f"{run.accuracies[-1]:.1%}"
        table.add_row(name, f"{run.tokens_per_second:,.0f}", memory, loss, accuracy)
    rich.print(table)


def draw(path, runs, history, difference):
    """Draws both loss curves, the held-out perplexity, and the memory of both runs."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplot_mosaic("lp;mm", height_ratios=(3, 1))
    styles = {HEAD: {"color": BLUE, "linewidth": 6}, LOGITS: {"color": ORANGE, "linewidth": 2}}
    for name, run in runs.items():
        axes["l"].plot(range(len(run.losses)), run.losses, label=name, **styles[name])
    axes["l"].legend()
    title = f"Training loss [nats]\nthe two differ by at most {difference:.0e} of the loss"
    axes["l"].set(title=title, xlabel="step")

    axes["p"].plot(history.keys(), history.values(), color=BLUE, marker="o")
    axes["p"].set(title="Held-out perplexity, with the head", xlabel="step", yscale="log")
    axes["p"].yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:,.0f}")
    axes["p"].yaxis.set_minor_locator(NullLocator())
    for name in "lp":
        axes[name].grid(alpha=0.3)

    memory = [run.temporary_mib for run in runs.values()]
    bars = axes["m"].barh(list(runs), memory, color=(BLUE, ORANGE))
    axes["m"].bar_label(bars, fmt="{:,.0f} MiB", padding=4)
    title = "Temporary memory of a train step [MiB]"
    axes["m"].set(title=title, xlim=(0, 1.1 * max(memory)))
    axes["m"].invert_yaxis()
    figure.savefig(path, dpi=110, bbox_inches="tight", pad_inches=0.2)


def summarize(history, difference, memory, memory_without):
    """Prints the results in one line, and fails if they are not as expected."""
    before, after = history[0], history[max(history)]
    print(
        f"held-out perplexity {before:.0f} -> {after:.0f}; "
        f"largest difference of the two curves {difference:.0e}; temporary memory "
        f"{memory:.0f} MiB with the head, {memory_without:.0f} MiB without"
    )
    problems = []
    if not after < before:
        problems.append("The held-out perplexity did not fall: train for more steps.")
    if not difference < TOLERANCE:
        problems.append(f"The two loss curves differ by more than {TOLERANCE:.0e} of the loss.")
    if not memory < memory_without:
        problems.append("The head took no less memory: give it a smaller max_logits_bytes.")
    if problems:
        sys.exit("\n".join(problems))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a small model, in seconds")
    parser.add_argument("--steps", type=int, metavar="N", help="default: 60, or 8 with --smoke")
    output, text = Path(__file__).with_suffix(".png"), "the picture; default: next to the program"
    parser.add_argument("--output", type=Path, default=output, metavar="PATH", help=text)
    args = parser.parse_args()
    if args.steps is not None and args.steps < 1:
        parser.error("--steps must be at least 1")
    return args


def main():
    args = arguments()
    size = SMOKE if args.smoke else FULL
    steps = args.steps or size.steps
    words, held_out, classes = corpus(size)
    print(f"{classes:9,} words in the vocabulary, {size.batch * CONTEXT:,} tokens in a step")
    head = partial(head_loss, max_logits_bytes=size.max_logits_bytes)
    losses = {HEAD: head, LOGITS: logits_loss}
    runs = {name: Run(loss, size.batch, classes, steps) for name, loss in losses.items()}

    history = train(runs, steps, size.batch, words, held_out)
    curve, reference = (np.array(run.losses) for run in runs.values())
    difference = np.max(np.abs(curve - reference) / reference)
    report(runs)
    draw(args.output, runs, history, difference)
    print(f"wrote {args.output}")
    summarize(history, difference, *(run.temporary_mib for run in runs.values()))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
