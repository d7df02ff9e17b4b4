"""Lists the promised results of edge cases in a table, and checks a row of it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests import exact

INF, NAN = np.inf, np.nan
INTEGER, SOFT = "softmax_cross_entropy_with_integer_labels", "softmax_cross_entropy"
FOCAL, POLY = "softmax_focal_loss", "poly_loss_cross_entropy"
KL, JS = "softmax_kl_divergence", "softmax_jensen_shannon_divergence"


class Edge(NamedTuple):
    """A call on some rows: each has a row of every argument, then (its loss, its gradient)."""

    loss: str
    rows: list[tuple[Any, ...]]
    options: dict[str, Any] = {}
    wrt: int = 0  # the argument of the gradient
    dtype: Any = None  # of all arguments but the first


BAD, OUT, FINITE = (NAN, NAN), (0, 0), (None, None)  # None stands for any finite number
GOOD, WILD = [0.5, -1.0, 2.0], [NAN, INF, -INF]
ABSENT = [0.5, -INF, 2.0]  # the second class has no probability


def of(z, t, c=0.0, classes=slice(None)):
    """Returns a row's loss and gradient, from 60 digits; left-out classes have the gradient 0."""
    z = np.asarray(z, float)
    t = exact.onehot(t, len(z)) if isinstance(t, int) else np.asarray(t)
    found, gradient = exact.cross_entropy(z[classes], t[classes], c), np.zeros(len(z))
    gradient[classes] = found.gradient
    return float(found.loss), gradient


def lse(z):
    return float(exact.softmax(z).lse), exact.softmax(z).p.astype(float)


def at(place, number):
    return [number if i == place else x for i, x in enumerate(GOOD)]


SPOILED = [at(place, bad) for place in (0, 1) for bad in (INF, NAN)]  # at the label and elsewhere
NEITHER = [(z, GOOD, BAD) for z in SPOILED[2:]] + [(GOOD, z, BAD) for z in SPOILED[2:]]
TIES = [[1e8, 1e8, 1e8], [7.0, 7.0, -INF], [0.0, 0.0, -20.0]]
MEAN, LEFT = {"reduction": "mean"}, {"where": np.array([[True, False, True]])}
FIRST, LAST, NONE = ({"where": np.array(w, bool)} for w in ([1, 0], [0, 1], [0, 0]))
WEIGHTS = jnp.array([1.0, 2.0, 3.0])
HALF = np.where(np.arange(70_000) == 1, -1, 1 / 70_000)
MANY = np.random.default_rng(0).normal(size=(2, 300)).astype(np.float32)

P, Q = lse([0, 1])[1], lse([0.5, 2])[1]
KL_PQ, M = (P * np.log(P / Q)).sum(), 0.25 * P + 0.75 * Q
BY_P = P * (np.log(P / Q) - KL_PQ)
KL_PM, KL_QM = ((p * np.log(p / M)).sum() for p in (P, Q))
BY_Q = 0.75 * Q * (np.log(Q / M) - KL_QM)
PART = {"where": np.array([[True, False, True], [False] * 3])}  # keeps nothing of the second row
EVEN, ODD = [0.5, 0.5, 0.0], [0.25, 0.75, 0.0]
CROSS = -0.5 * np.log(0.25 * 0.75)
H = {beta: -beta * np.log(beta) - (1 - beta) * np.log(1 - beta) for beta in (0.5, 0.125)}

EDGES = {
    "integer": Edge(INTEGER, [
        (GOOD, 0, of(GOOD, 0)), (GOOD, 3, BAD), (GOOD, -1, BAD),
        (ABSENT, 1, of(ABSENT, 1)), (ABSENT, 0, of(ABSENT, 0)), ([-INF] * 3, 0, BAD),
        *[(z, 0, BAD) for z in SPOILED], *[(z, 1, of(z, 1)) for z in TIES],
    ]),
    "integer, one class": Edge(INTEGER, [([3.0], 0, OUT)]),
    "integer, smoothed": Edge(INTEGER, [
        (GOOD, -1, BAD), (GOOD, 1, of(GOOD, [0.1, 0.8, 0.1])),
        (ABSENT, 0, of(ABSENT, [0.8, 0.1, 0.1])),
    ], {"label_smoothing": 0.3}),
    "integer, z-loss": Edge(
        INTEGER, [(GOOD, -1, BAD), (GOOD, 1, of(GOOD, 1, 0.1))], {"z_loss": 0.1}
    ),
    "integer, weights": Edge(INTEGER, [  # the weight 0 is that of a class whose loss is infinite
        (GOOD, -1, BAD), (GOOD, 2, of(GOOD, [0, 0, 3])), (ABSENT, 1, OUT),
    ], {"class_weights": jnp.array([1.0, 0.0, 3.0])}),
    # A label out of range makes the mean NaN, but of the gradient only its own row.
    "integer, a mean of weights": Edge(
        INTEGER, [(GOOD, -1, BAD), (GOOD, 1, FINITE)], {"class_weights": WEIGHTS} | MEAN
    ),
    "integer, masked examples": Edge(INTEGER, [([-INF] * 3, 0, OUT), (GOOD, 0, of(GOOD, 0))], LAST),
    "integer, a mean of masked examples": Edge(
        INTEGER, [(GOOD, 0, of(GOOD, 0)), (WILD, 7, OUT)], FIRST | MEAN
    ),
    "integer, a mean of no example": Edge(INTEGER, [(GOOD, 0, OUT)] * 2, NONE | MEAN),
    "integer, a mean of ignored examples": Edge(
        INTEGER, [(GOOD, 0, OUT)] * 2, {"ignore_index": 0} | MEAN
    ),
    "integer, a mean of ignored examples and weights": Edge(
        INTEGER, [(GOOD, 0, OUT)] * 2, {"ignore_index": 0, "class_weights": jnp.ones(3)} | MEAN
    ),
    # A class that is masked out may hold any logit. Its gradient is 0, even if it is the label.
    "integer, masked classes": Edge(INTEGER, [
        (GOOD, 1, (INF, [Q[0], 0, Q[1]])),
        *[(at(1, x), 0, of(GOOD, 0, classes=[0, 2])) for x in (NAN, INF, -INF, 1e30)],
    ], LEFT),
    "integer, masked classes, smoothed": Edge(
        INTEGER, [(GOOD, 0, of(GOOD, [0.85, 0, 0.15], classes=[0, 2]))],
        LEFT | {"label_smoothing": 0.3},
    ),
    "integer, float16 and more classes than it counts": Edge(
        INTEGER, [(np.zeros(70_000, np.float16), 1, (np.log(70_000), HALF))]
    ),
    "integer, uint8 and more classes than it holds": Edge(
        INTEGER, [(z, y, of(z, y)) for z, y in zip(MANY, [255, 3], strict=True)], dtype="uint8"
    ),
    "soft": Edge(SOFT, [
        (GOOD, [0.5, 0.0, 2.0], of(GOOD, [0.5, 0, 2])),
        (GOOD, [0.5, -2.0, 0.3], of(GOOD, [0.5, -2, 0.3])),  # the formula holds below 0 as well
        (ABSENT, [1.0, 0, 0], of(ABSENT, 0)),
        (ABSENT, [0.5, 0.25, 0.5], of(ABSENT, [0.5, 0.25, 0.5])),
        *[(z, [1.0, 0, 0], BAD) for z in SPOILED], *[(z, [0.0, 1, 0], of(z, 1)) for z in TIES],
    ]),
    "soft, one class": Edge(SOFT, [([3.0], [1.0], OUT)]),
    "soft, a mean of masked examples": Edge(
        SOFT, [(GOOD, [1.0, 0, 0], of(GOOD, 0)), (WILD, [NAN, 1, 0], OUT)], FIRST | MEAN
    ),
    "soft, masked classes": Edge(SOFT, [
        (at(1, x), [1.0, 5, 0], of(GOOD, 0, classes=[0, 2])) for x in (NAN, INF, -INF, 1e30)
    ], LEFT),
    "soft, masked classes, smoothed": Edge(
        SOFT, [(GOOD, [1.0, 0, 0], of(GOOD, [0.85, 0, 0.15], classes=[0, 2]))],
        LEFT | {"label_smoothing": 0.3},
    ),
    "focal": Edge(FOCAL, [
        (ABSENT, 1, of(ABSENT, 1)), (GOOD, 3, BAD), (GOOD, 1, FINITE),
        *[(z, 0, BAD) for z in SPOILED],
    ]),
    "focal, one class": Edge(FOCAL, [([3.0], 0, OUT)]),
    "poly": Edge(POLY, [(z, [1.0, 0, 0], BAD) for z in SPOILED] + [(GOOD, [1.0, 0, 0], FINITE)]),
    # 1 - p comes from the other classes, not from a subtraction.
    "poly, confident": Edge(POLY, [([20.0, 0.0], [1.0, 0.0], (3 * np.exp(-20), None))]),
    "binary": Edge("sigmoid_binary_cross_entropy", [
        (INF, 1.0, (0, 0)), (-INF, 0.0, (0, 0)), (INF, 0.0, (INF, 1)), (-INF, 1.0, (INF, -1)),
    ]),
    "logsumexp": Edge("logsumexp", [
        ([-INF] * 3, (-INF, NAN)), (GOOD, lse(GOOD)),
        *[(z, BAD) for z in SPOILED], *[(z, lse(z)) for z in TIES],
    ]),
    "softmax, masked": Edge("softmax", [
        (GOOD, ([Q[0], 0, Q[1]], None)), ([NAN] * 3, OUT),
    ], PART),
    "log_softmax, masked": Edge("log_softmax", [
        (GOOD, ([np.log(Q[0]), -INF, np.log(Q[1])], None)), ([NAN] * 3, (-INF, 0)),
    ], PART),
    "logsumexp, masked": Edge("logsumexp", [(GOOD, (-INF, 0))], {"where": np.zeros(1, bool)}),
    "kl": Edge(KL, [
        ([0.0, -INF, 0.0], [0.0] * 3, (INF, [1 / 6, -1 / 3, 1 / 6])),
        ([0.0] * 3, [0.0, -INF, 0.0], (np.log(1.5), [-1 / 6, 1 / 3, -1 / 6])),
        (GOOD, GOOD, (0, 0)), *NEITHER,
    ]),
    "kl, to the target": Edge(KL, [([0.0, -INF, 0.0], [0.0] * 3, (INF, NAN))], wrt=1),
    "kl, masked": Edge(KL, [
        ([0.5, INF, 2.0], [0.0, NAN, 1.0], (KL_PQ, [Q[0] - P[0], 0, Q[1] - P[1]])),
        ([NAN] * 3, [NAN] * 3, OUT),
    ], PART),
    "kl, masked, to the target": Edge(KL, [
        ([0.5, INF, 2.0], [0.0, NAN, 1.0], (KL_PQ, [BY_P[0], 0, BY_P[1]])),
        ([0.5, INF, 2.0], [NAN] * 3, OUT),
    ], PART, wrt=1),
    "js": Edge(JS, [(GOOD, GOOD, (0, 0)), *NEITHER]),
    "js, masked": Edge(JS, [
        ([0.5, INF, 2.0], [0.0, NAN, 1.0], (0.25 * KL_PM + 0.75 * KL_QM, [BY_Q[0], 0, BY_Q[1]])),
        ([NAN] * 3, [NAN] * 3, OUT),
    ], PART | {"beta": 0.25}),
    "entropy": Edge("entropy", [(EVEN, (np.log(2), [np.log(2) - 1] * 2 + [INF]))]),
    "cross_entropy": Edge("cross_entropy", [(EVEN, ODD, (CROSS, [-2, -2 / 3, 0]))], wrt=1),
    "relative_entropy": Edge(
        "relative_entropy", [(EVEN, ODD, (CROSS - np.log(2), [-2, -2 / 3, 0]))], wrt=1
    ),
    "kl_divergence": Edge(
        "kl_divergence", [([*np.log(ODD[:2]), -INF], EVEN, (CROSS - np.log(2), [-0.5, -0.5, 0]))]
    ),
}  # fmt: skip
EDGES |= {
    f"integer, {dtype}": Edge(
        INTEGER, [(GOOD, 0, of(GOOD, 0)), (GOOD, 3, BAD), (GOOD, bad, BAD)], dtype=dtype
    )
    for dtype, bad in (("int8", -1), ("uint8", 127), ("uint32", 127))
}
EDGES |= {
    f"integer, ignoring {out}, {reduction}": Edge(
        INTEGER,
        [(GOOD, 0, of(GOOD, 0)), (WILD, out, OUT), (GOOD, 2, of(GOOD, 2))]
        + [(GOOD, -1, BAD)] * (reduction == "none"),
        {"ignore_index": out, "reduction": reduction},
    )
    for out in (-100, 1)
    for reduction in ("none", "mean")
}
EDGES |= {  # NaN, as in PyTorch, if an example is left in; else 0, whatever the weights are
    f"{loss}, a mean of weights of 0{', no example' * (result is OUT)}": Edge(
        loss, [(GOOD, 0, result)] * 2, {"class_weights": jnp.array([0.0, 0.0, 1.0])} | MEAN | more
    )
    for loss in (INTEGER, FOCAL, "linear_softmax_cross_entropy")
    for result, more in ((BAD, {}), (OUT, NONE))
}
EDGES |= {  # the loss is h, however far apart the rows are
    f"js of rows that share no class, {beta}": Edge(
        JS, [([0.0, -far], [-far, 0.0], (h, 0)) for far in (70, 1e4, INF)], {"beta": beta}
    )
    for beta, h in H.items()
}

# Both modes share their formulas, and jit and eager calls share programs: two pairs suffice.
every_way = pytest.mark.parametrize(
    ("module", "wrap"),
    [
        pytest.param(xent_jax, jax.jit, id="vjp-jit"),
        pytest.param(
            xent_jax.forward_mode, lambda f: f, id="jvp-eager", marks=pytest.mark.fast_compile
        ),
    ],
)


def check(edge, module, wrap=jax.jit):
    *args, results = zip(*edge.rows, strict=True)
    args = [jnp.asarray(np.array(x), edge.dtype if i else None) for i, x in enumerate(args)]
    if edge.loss.startswith("linear"):
        args.insert(1, jnp.eye(3))

    def total(x):
        given = [*args[: edge.wrt], x, *args[edge.wrt + 1 :]]
        losses = getattr(module, edge.loss)(*given, **edge.options)
        return jnp.sum(losses), losses

    gradient, losses = wrap(jax.grad(total, has_aux=True))(args[edge.wrt])
    wanted, scale = [loss for loss, _ in results], 1
    if edge.options.get("reduction") == "mean":
        scale = 1 / max(sum(row is not OUT for row in results), 1)
        losses, wanted = [losses], [scale * sum(x or 0 for x in wanted)]
    slopes = [None if slope is None else scale * np.asarray(slope) for _, slope in results]
    compared = [(x, y, 0) for x, y in zip(losses, wanted, strict=True)]
    compared += [(x, y, 1e-7) for x, y in zip(np.asarray(gradient), slopes, strict=True)]
    for got, number, atol in compared:
        if number is None:
            assert np.isfinite(got).all()
        else:
            np.testing.assert_allclose(np.asarray(got, np.float64), number, rtol=1e-6, atol=atol)
