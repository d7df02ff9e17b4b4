"""Every public function works with the JAX options that users set, on ordinary and hard inputs."""

import contextlib
import functools
import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests import calls
from tests.cases import CASES, RICHEST, row, x64
from tests.chunks import chunks_of
from tests.heads import drawn, pulled
from tests.meshes import on_mesh
from tests.problems import close

pytestmark = pytest.mark.fast_compile

INF = np.inf
HARD = {  # three examples of each kind; the second has no mass on its class of logit -inf
    "logits": [[1.0, -2.0, 0.5, 0.0], [0.5, 1.0, -INF, 3.0], [200.0, 0.0, -1.0, 3.0]],
    "soft": [[0.2, 0.3, 0.1, 0.0], [0.0, 1.0, 0.0, 0.5], [1.0, 0.0, 0.0, 0.0]],
    "probabilities": [[0.1, 0.2, 0.3, 0.4], [1e-9, 0.5, 1e-8, 0.5], [1.0, 1e-9, 1e-9, 1e-9]],
    "elements": [[1.0, -2.0, 0.5, 0.0], [200.0, -200.0, 0.0, 1e30], [-1e30, 20.0, -20.0, 1e-30]],
    "unit elements": [[0.2, 0.3, 0.1, 0.5], [0.0, 1.0, 0.0, 1.0], [1.0, 1.0, 0.0, 0.5]],
    "integers": [1, 3, 0],
    "weights": [1.0, 0.5, 0.0, 2.0],
    "example weights": [1.0, 0.0, 2.0],
}
HARD["log_probabilities"] = np.log(HARD["probabilities"])
WHOLE = {"logits": np.nan_to_num(HARD["logits"], neginf=-5.0)}  # smoothing gives all classes mass


def hard(case, end, **options):
    """Returns hard floating arguments for a case, and its function of a module and these.

    A number with a range is at its low (``end`` 0) or high end (1), and smoothing is ``end``.
    """
    kinds = case.arguments | case.keywords
    known = HARD | (WHOLE if end and "label_smoothing" in kinds else {})
    given = {k: known[v] if v in known else float(v.split()[end]) for k, v in kinds.items()}
    if "label_smoothing" in given:
        given["label_smoothing"] = float(end)
    integers = {k: jnp.asarray(v) for k, v in given.items() if kinds[k] == "integers"}
    floats = {k: v for k, v in given.items() if k not in integers}
    return floats, lambda module, floats: case.call(module, floats | integers, **options)


# ------------------------------------------------------------------ what has no row of the table


def focal(library, arrays):
    return {
        "loss": lambda z, y: library.softmax_focal_loss(z, y, gamma=arrays["z_loss"]),
        "logit_transform": lambda z: library.softcap(z, 5.0),
    }


LABELS, LEFT = jnp.array([1, 3, -100, 7, 0]), jnp.array([True, True, True, False, True])
TOKENS = {"labels": LABELS, "where": LEFT, "ignore_index": -100}


def head(options, names="inputs kernel bias class_weights z_loss", call=calls.cross_entropy):
    """Returns a call with these options, and the names of its floating arrays."""
    return functools.partial(call, **options), names.split()


HEADS = {
    "linear_softmax_cross_entropy": head(TOKENS),
    "linear_softmax_cross_entropy, none": head(TOKENS | {"reduction": "none"}),
    "linear_softmax_cross_entropy, capped": head(
        TOKENS | {"logit_softcap": 3.0, "label_smoothing": 1.0}
    ),
    "linear_token_statistics": head(
        {"labels": LABELS.at[3].set(2), "ignore_index": -100},
        "inputs kernel bias",
        calls.linear_token_statistics,
    ),
    "with_linear_head": head(
        {"labels": jnp.maximum(LABELS, 0) % 4, "where": LEFT},
        "inputs kernel z_loss",
        calls.any_head(focal),
    ),
}


def of_head(name, end):
    rng = np.random.default_rng(0)
    shapes = {"inputs": (5, 3), "kernel": (3, 4), "bias": (4,), "class_weights": (4,)}
    floats = {k: rng.uniform(0.5, 2, s) for k, s in shapes.items()} | {"z_loss": 0.1 + end}
    floats["bias"][2] = [-INF, 300.0][end]  # a class that is absent, or has all the mass
    floats["inputs"][3] = 1e30  # every head but the statistics leaves it out
    function, names = HEADS[name]
    return {k: floats[k] for k in names}, function


def each(heads):
    """Parametrizes a test by each function's row with the most options, and by these heads."""
    problems = {name: functools.partial(hard, case) for name, case in RICHEST.items()}
    problems |= {name: functools.partial(of_head, name) for name in heads}
    return pytest.mark.parametrize("problem", problems.values(), ids=problems)


def derivatives(module, function, floats):
    """Returns the value, and the gradients of the sum of its finite entries."""
    gradients, value = jax.grad(
        lambda f: (jnp.nansum(jnp.where(jnp.isfinite(v := function(module, f)), v, 0)), v),
        has_aux=True,
    )(floats)
    return value, gradients


def as_dtype(floats, dtype):
    return {k: jnp.asarray(v, dtype) for k, v in floats.items()}


# Each mode is tested at one end of the ranges only, because both share their formulas.
ways = pytest.mark.parametrize(
    ("module", "end"), [(xent_jax, 0), (xent_jax.forward_mode, 1)], ids=["vjp", "jvp"]
)


@each(HEADS)
@ways
def test_debug_nans(module, problem, end):
    """JAX checks each result of eager calls: no NaN is made on the way to value and gradients."""
    floats, function = problem(end)
    with chunks_of(2), jax.debug_nans(True):
        derivatives(module, function, as_dtype(floats, jnp.float32))


def options_of(case):
    """Returns options to try: none, masks of classes or elements, of examples, and ignore_index."""
    every = np.array([[True, True, False, True], [False] * 4, [True] * 4])
    several = [{}]
    if "where" in case.parameters:
        several += [{"where": every}]
        several += [{"where": every[:, 3]}] if case.has_axis else []
    if "ignore_index" in case.parameters and "ignore_index" not in case.options:
        several += [{"ignore_index": 3}]
    return several


def op_by_op(module, floats, function):
    """Computes value and gradients under ``disable_jit``, where JAX checks every operation."""
    with chunks_of(2), jax.debug_nans(True), jax.disable_jit():
        derivatives(module, function, as_dtype(floats, jnp.float32))


@pytest.mark.parametrize("case", [row(case) for case in CASES])
def test_debug_nans_op_by_op(case):
    for options in options_of(case) if case is RICHEST[case.loss] else [{}]:
        op_by_op(xent_jax, *hard(case, 0, **options))


@pytest.mark.slow
@pytest.mark.parametrize("case", RICHEST.values(), ids=lambda case: case.id)
def test_debug_nans_op_by_op_in_forward_mode(case):
    op_by_op(xent_jax.forward_mode, *hard(case, 1))


@pytest.mark.parametrize("name", HEADS)
def test_debug_nans_op_by_op_of_a_head(name):
    op_by_op(xent_jax, *of_head(name, 1))


@each([])
def test_disable_jit(problem):
    """Without ``jit``, operations give the same numbers as the compiled program."""
    floats, function = problem(1)
    # Sums in which numbers as large as 1e30 cancel depend on the order of the terms.
    floats = {k: np.where(np.abs(v) == 1e30, 300 * np.sign(v), v) for k, v in floats.items()}
    with x64(), chunks_of(2):
        floats = as_dtype(floats, jnp.float64)
        run = functools.partial(derivatives, xent_jax, function)
        wanted = jax.jit(run)(floats)
        with jax.disable_jit():
            close(run(floats), wanted)


@contextlib.contextmanager
def leaks_are_found():
    """Sets ``jax.checking_leaks`` for the context; its garbage collections skip older objects."""
    gc.collect()
    gc.freeze()
    try:
        with jax.checking_leaks():
            yield
    finally:
        gc.unfreeze()


@each(["linear_token_statistics"])
def test_no_tracer_leaks(problem):
    floats, function = problem(0)
    run = functools.partial(derivatives, xent_jax, function)
    with leaks_are_found():
        jax.eval_shape(run, as_dtype(floats, jnp.float32))


@pytest.mark.parametrize(
    "switch",
    [
        functools.partial(jax.debug_nans, True),
        functools.partial(jax.numpy_dtype_promotion, "strict"),
        functools.partial(jax.numpy_rank_promotion, "raise"),
    ],
    ids=["debug_nans", "strict dtypes", "strict ranks"],
)
def test_the_head_on_a_mesh(switch):
    """``checking_leaks`` is left out: it finds a leak in the gradient of any ``shard_map``."""
    one, (x, w, _, y) = xent_jax.linear_softmax_cross_entropy, drawn((4,), classes=4)

    def run(head):
        loss = functools.partial(head, ignore_index=1, z_loss=0.1)
        return jax.jit(functools.partial(pulled, loss))(x, w, y)

    wanted = run(one)
    with switch():
        close(run(on_mesh(one)), wanted, 1e-6)


def test_a_leak_is_found():
    """``leaks_are_found`` raises an error where a tracer leaks."""
    kept = []
    with leaks_are_found(), pytest.raises(Exception, match="[Ll]eak"):
        jax.eval_shape(lambda x: kept.append(x + 1), jnp.ones(2))
