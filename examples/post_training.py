"""Post-training losses of a language model, without holding all its logits.

    pip install "xent-jax[examples]"
    python examples/post_training.py

A policy of one layer learns the source of Python's standard library, and is then trained by GRPO to
write words that occur later in the text. Six losses of post-training and of two-tower models (GRPO,
DPO, distillation, multi-token prediction, CLIP, SigLIP) are compared with plain JAX that holds all
logits: value, gradients, matrix products, time and memory. The program draws the memory in
post_training.png. With ``--smoke`` it takes seconds.
"""

import argparse
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich
from language_model import BLUE, ORANGE, corpus
from matplotlib.figure import Figure
from rich.progress import track
from rich.table import Table

import xent_jax

TOLERANCE = 1e-4  # of values and gradients in float32, relative to their norms
CLIP, KL_PENALTY, DPO_BETA, TEMPERATURE = 0.2, 0.05, 0.1, 2.0
GROUP, RESPONSE, WINDOW = 8, 4, 16  # samples per prompt, words per sample, words to reward
SEED = 0
integer_loss = xent_jax.softmax_cross_entropy_with_integer_labels


class Size(NamedTuple):
    """The size of a run."""

    vocabulary: int
    files: int | None  # of the standard library; None means all
    width: int
    tokens: int  # per call of the compared losses
    prompts: int  # per step of GRPO
    steps: int  # of training on the text; GRPO takes half as many
    max_logits_bytes: int | None


FULL = Size(32_768, None, 128, 4096, 32, 80, None)
SMOKE = Size(2_048, 40, 64, 1024, 32, 40, 2**20)  # the default would hold all these small logits


# ------------------------------------------------------------------ losses of logits, per token


def grpo(logits, given):
    """Returns the clipped objective of each token, with a penalty for leaving the reference policy.

    The penalty is the estimate of the divergence that is never negative, exp(d) - d - 1, where d is
    the reference's log-probability minus the policy's.
    """
    log_p = -integer_loss(logits, given["words"])
    ratio = jnp.exp(log_p - given["old"])
    clipped = jnp.clip(ratio, 1 - CLIP, 1 + CLIP)
    gain = jnp.minimum(ratio * given["advantage"], clipped * given["advantage"])
    apart = given["reference"] - log_p
    return KL_PENALTY * (jnp.exp(apart) - apart - 1) - gain


def siglip(shift, logits, pair):
    """Returns for each row the sum of its binary losses; the column of its own pair is positive."""
    labels = jax.nn.one_hot(pair, logits.shape[-1])
    return xent_jax.sigmoid_binary_cross_entropy(logits + shift, labels).sum(-1)


# ----------------------------------------------------------------------- the same losses, twice


class Compared(NamedTuple):
    """A loss with the head and a loss with all logits, of the same arguments."""

    head: Callable[..., Any]
    plain: Callable[..., Any]
    arguments: tuple[Any, ...]  # the first two are differentiated


def plain_log_p(inputs, kernel, words):
    """Returns each token's log-probability, from logits that are held."""
    log_p = jax.nn.log_softmax(inputs @ kernel)
    return jnp.take_along_axis(log_p, words[:, None], -1)[:, 0]


def of_grpo(x, kernel, given, budget):
    head = xent_jax.with_linear_head(grpo, max_logits_bytes=budget)

    def plain(x, kernel, given):
        log_p = plain_log_p(x, kernel, given["words"])
        ratio = jnp.exp(log_p - given["old"])
        clipped = jnp.clip(ratio, 1 - CLIP, 1 + CLIP)
        gain = jnp.minimum(ratio * given["advantage"], clipped * given["advantage"])
        apart = given["reference"] - log_p
        return jnp.mean(KL_PENALTY * (jnp.exp(apart) - apart - 1) - gain)

    return Compared(head, plain, (x, kernel, given))


def of_dpo(x, kernel, given, budget):
    """Returns both versions of DPO; the tokens are first chosen responses, then rejected ones."""

    def loss(log_p, reference):
        chosen, rejected = (log_p - reference).reshape(2, -1, RESPONSE).sum(-1)
        return -jnp.mean(jax.nn.log_sigmoid(DPO_BETA * (chosen - rejected)))

    def head(x, kernel, given):
        losses = xent_jax.linear_softmax_cross_entropy(
            x, kernel, given["words"], reduction="none", max_logits_bytes=budget
        )
        return loss(-losses, given["reference"])

    def plain(x, kernel, given):
        return loss(plain_log_p(x, kernel, given["words"]), given["reference"])

    return Compared(head, plain, (x, kernel, given))


def of_distillation(x, kernel, teacher, teacher_kernel, budget):
    """Returns both versions of distillation; the head does not hold the teacher's logits either."""

    def head(x, kernel, teacher, teacher_kernel):
        def loss(logits, states):
            target = states @ teacher_kernel
            return xent_jax.softmax_kl_divergence(logits, target, temperature=TEMPERATURE)

        return xent_jax.with_linear_head(loss, max_logits_bytes=budget)(x, kernel, teacher)

    def plain(x, kernel, teacher, teacher_kernel):
        log_q = jax.nn.log_softmax(x @ kernel / TEMPERATURE)
        log_p = jax.nn.log_softmax(teacher @ teacher_kernel / TEMPERATURE)
        return jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), -1))

    return Compared(head, plain, (x, kernel, teacher, teacher_kernel))


def of_several_words(x, kernel, words, budget):
    """Returns both versions of multi-token prediction, for the next word and the one after it."""

    def states(x):
        return jnp.concatenate([x, jnp.tanh(x)])

    labels = jnp.concatenate([words, jnp.roll(words, -1)])

    def head(x, kernel):
        loss = xent_jax.linear_softmax_cross_entropy
        return loss(states(x), kernel, labels, max_logits_bytes=budget)

    def plain(x, kernel):
        return -jnp.mean(plain_log_p(states(x), kernel, labels))

    return Compared(head, plain, (x, kernel))


def of_clip(a, b, budget):
    """Returns both versions of CLIP; each tower's output is the kernel of the other's head."""
    pair = jnp.arange(len(a))

    def head(a, b):
        loss = functools.partial(
            xent_jax.linear_softmax_cross_entropy, kernel_axes="VD", max_logits_bytes=budget
        )
        return (loss(a, b, pair) + loss(b, a, pair)) / 2

    def plain(a, b):
        logits = a @ b.T
        both = (jax.nn.log_softmax(z) for z in (logits, logits.T))
        return -sum(jnp.mean(jnp.diag(log_p)) for log_p in both) / 2

    return Compared(head, plain, (a, b))


def of_siglip(a, b, shift, budget):
    def head(a, b, shift):
        options = {"kernel_axes": "VD", "max_logits_bytes": budget}
        loss = xent_jax.with_linear_head(functools.partial(siglip, shift), **options)
        return loss(a, b, jnp.arange(len(a)))

    def plain(a, b, shift):
        signs = 2 * jnp.eye(len(a)) - 1
        return -jnp.mean(jnp.sum(jax.nn.log_sigmoid(signs * (a @ b.T + shift)), -1))

    return Compared(head, plain, (a, b, shift))


def losses_of(size):
    """Returns every loss with the arguments that it is compared on."""
    rng = np.random.default_rng(SEED)

    def normal(*shape, scale=1.0):
        return jnp.asarray(scale * rng.standard_normal(shape), jnp.float32)

    n, d, v, budget = size.tokens, size.width, size.vocabulary, size.max_logits_bytes
    x, kernel = normal(n, d), normal(d, v, scale=d**-0.5)
    words = jnp.asarray(rng.integers(0, v, n), jnp.int32)
    log_p = plain_log_p(x, kernel, words)
    given = {
        "words": words,
        "old": log_p + normal(n, scale=0.2),
        "reference": log_p + normal(n, scale=0.2),
        "advantage": normal(n),
    }
    pair = {name: given[name] for name in ("words", "reference")}
    teacher = normal(n, 2 * d), normal(2 * d, v, scale=d**-0.5)
    towers = normal(n, d, scale=d**-0.25), normal(n, d, scale=d**-0.25)
    of_towers = 2**17 if budget else 2**24  # their logits are [tokens, tokens]
    return {
        "GRPO": of_grpo(x, kernel, given, budget),
        "DPO": of_dpo(x, kernel, pair, budget),
        "distillation": of_distillation(x, kernel, *teacher, budget),
        "multi-token": of_several_words(x, kernel, words, budget),
        "CLIP": of_clip(*towers, of_towers),
        "SigLIP": of_siglip(*towers, jnp.asarray(-5.0), of_towers),
    }


# ---------------------------------------------------------------------------- the comparison


class Measured(NamedTuple):
    """The measurements of a value with its gradients."""

    result: Any
    products: int
    seconds: float
    mib: float  # temporary memory


def products(jaxpr):
    """Counts the matrix products of a program; those inside a loop count once."""
    return sum(map(products_of, jaxpr.eqns))


def products_of(equation):
    """Counts the products of one equation and of the programs in it; of a cond, the largest."""
    if equation.primitive.name == "dot_general":
        return 1
    parameters = jax.tree.leaves(
        list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")
    )
    inner = [getattr(p, "jaxpr", p) for p in parameters]
    counts = [products(p) for p in inner if hasattr(p, "eqns")]
    return max(counts, default=0) if equation.primitive.name == "cond" else sum(counts)


def measured(loss, arguments):
    run = jax.value_and_grad(loss, (0, 1))
    count = products(jax.make_jaxpr(run)(*arguments).jaxpr)
    program = jax.jit(run).lower(*arguments).compile()
    mib = program.memory_analysis().temp_size_in_bytes / 2**20
    times = []
    for _ in range(4):  # the first warms up
        start = time.perf_counter()
        result = jax.block_until_ready(program(*arguments))
        times.append(time.perf_counter() - start)
    return Measured(result, count, min(times[1:]), mib)


def apart(found, wanted):
    """Returns the largest difference of value and gradients, relative to the norm of each."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    return max(float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b)) for a, b in pairs)


def compare(losses):
    """Prints both sides of each loss; returns the memory and the largest difference of each."""
    columns = "", "products", "time [ms]", "memory [MiB]", "differs by"
    table = Table(*columns, title="with the head | with all logits")
    memory, differences = {}, {}
    for name, loss in track(losses.items(), "comparing"):
        a, b = (measured(f, loss.arguments) for f in (loss.head, loss.plain))
        memory[name], differences[name] = (a.mib, b.mib), apart(a.result, b.result)
        table.add_row(
            name,
            f"{a.products} | {b.products}",
            f"{1e3 * a.seconds:,.0f} | {1e3 * b.seconds:,.0f}",
            f"{a.mib:,.1f} | {b.mib:,.1f}",
            f"{differences[name]:.0e}",
        )
    rich.print(table)
    return memory, differences


def draw(path, memory):
    """Draws the temporary memory of each loss, with the head and with all logits."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(memory))
    for offset, which, color in ((-0.2, "with the head", BLUE), (0.2, "with all logits", ORANGE)):
        sizes = [both[offset > 0] for both in memory.values()]
        bars = axes.barh(places + offset, sizes, 0.4, label=which, color=color)
        axes.bar_label(bars, fmt="{:,.1f}", padding=4)
    largest = max(max(both) for both in memory.values())
    title = "Temporary memory of value and gradients [MiB]"
    axes.set(title=title, yticks=places, yticklabels=list(memory), xlim=(0, 1.12 * largest))
    axes.invert_yaxis()
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=110, bbox_inches="tight", pad_inches=0.2)


# -------------------------------------------------------------------------- a policy of one layer


def initial(size, classes):
    keys = jax.random.split(jax.random.key(SEED))
    shapes = {"words": (classes, size.width), "kernel": (size.width, classes)}
    pairs = zip(shapes.items(), keys, strict=True)
    return {name: 0.1 * jax.random.normal(key, shape) for (name, shape), key in pairs}


def hidden(params, words):
    """Returns the hidden states, which depend on the preceding word only."""
    return jnp.tanh(params["words"][words])


def learn(params, size, text):
    """Trains the policy on the text."""
    optimizer = optax.adam(2e-2)
    state, rng = optimizer.init(params), np.random.default_rng(SEED)

    @jax.jit
    def step(params, state, words, following):
        def loss(params):
            head = xent_jax.linear_softmax_cross_entropy
            return head(hidden(params, words), params["kernel"], following)

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    for _ in track(range(size.steps), "learning the text"):
        at = rng.integers(len(text) - 1, size=1024)
        params, state, value = step(params, state, text[at], text[at + 1])
    print(f"loss of the next word {float(value):.2f} nats")
    return params


@jax.jit
def respond(params, key, prompts):
    """Samples RESPONSE words after each prompt; returns words read and written, and their log p."""

    def write(word, key):
        logits = hidden(params, word) @ params["kernel"]
        following = jax.random.categorical(key, logits)
        return following, (word, following, -integer_loss(logits, following))

    found = jax.lax.scan(write, prompts, jax.random.split(key, RESPONSE))[1]
    return jax.tree.map(lambda x: x.T, found)


def reinforce(params, size, text):
    """Trains the policy by GRPO; returns the mean reward of each step."""
    optimizer, reference = optax.adam(3e-3), params
    state, rng, rewards = optimizer.init(params), np.random.default_rng(SEED), []
    head = xent_jax.with_linear_head(grpo, max_logits_bytes=size.max_logits_bytes)

    @jax.jit
    def step(params, state, read, given):
        def of_reference():
            loss = xent_jax.linear_softmax_cross_entropy
            x = hidden(reference, read)
            return -loss(x, reference["kernel"], given["words"], reduction="none")

        given = given | {"reference": of_reference()}
        gradient = jax.grad(lambda p: head(hidden(p, read), p["kernel"], given))(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state

    for i in track(range(size.steps // 2), "GRPO"):
        at = np.repeat(rng.integers(len(text) - WINDOW, size=size.prompts), GROUP)
        read, written, log_p = respond(params, jax.random.key(i), text[at])
        coming = text[at[:, None] + np.arange(1, WINDOW)]
        reward = np.mean(np.any(np.asarray(written)[:, :, None] == coming[:, None], -1), -1)
        rewards.append(reward.mean())
        groups = reward.reshape(-1, GROUP)
        spread = groups.std(-1, keepdims=True) + 1e-4
        advantage = ((groups - groups.mean(-1, keepdims=True)) / spread).reshape(-1, 1)
        advantage = jnp.broadcast_to(jnp.asarray(advantage, jnp.float32), written.shape)
        given = {"words": written, "old": log_p, "advantage": advantage}
        params, state = step(params, state, read, given)
    return rewards


# -------------------------------------------------------------------------------------- all of it


def summarize(rewards, differences, memory):
    """Prints the results in one line, and fails if they are not as expected."""
    tenth = max(1, len(rewards) // 10)
    before, after = np.mean(rewards[:tenth]), np.mean(rewards[-tenth:])
    worst = max(differences.values())
    print(
        f"reward {before:.3f} -> {after:.3f}; largest difference from plain JAX {worst:.0e}; "
        f"memory of all losses {sum(a for a, _ in memory.values()):,.0f} MiB with the head, "
        f"{sum(b for _, b in memory.values()):,.0f} MiB with all logits"
    )
    problems = []
    if not after > before:
        problems.append("The reward did not rise: train for more steps.")
    if not worst < TOLERANCE:
        problems.append(f"Values or gradients differ from plain JAX's by over {TOLERANCE:.0e}.")
    if not all(a < b for a, b in memory.values()):
        problems.append("A loss took no less memory: give it a smaller max_logits_bytes.")
    if problems:
        sys.exit("\n".join(problems))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a small policy, in seconds")
    output, text = Path(__file__).with_suffix(".png"), "the picture; default: next to the program"
    parser.add_argument("--output", type=Path, default=output, metavar="PATH", help=text)
    args = parser.parse_args()
    size = SMOKE if args.smoke else FULL

    memory, differences = compare(losses_of(size))
    draw(args.output, memory)
    print(f"wrote {args.output}")
    text, _, classes = corpus(size)
    rewards = reinforce(learn(initial(size, classes), size, text), size, text)
    summarize(rewards, differences, memory)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
