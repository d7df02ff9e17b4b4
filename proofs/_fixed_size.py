"""Textbook losses and the gradients shipped for them, as SymPy expressions."""

from collections.abc import Callable

import sympy as sp

K = 3
_z = sp.symbols(f"z:{K}", real=True)
_t = sp.symbols(f"t:{K}", positive=True)
_q = sp.symbols(f"q:{K}", positive=True)
_a, _c, _e, _gamma = sp.symbols("a c e gamma", positive=True)
_lse = sp.log(sum(map(sp.exp, _z)))
_p = [sp.exp(z - _lse) for z in _z]
_mass = sum(_t)
_x, _b = sp.symbols("x b", real=True)  # a binary logit and its label
_up, _down = 1 / (1 + sp.exp(-_x)), 1 / (1 + sp.exp(_x))
_binary = -_b * sp.log(_up) - (1 - _b) * sp.log(_down)
_wrong = _b * _down + (1 - _b) * _up
_Check = tuple[sp.Expr, tuple[sp.Symbol, ...], list[sp.Expr]]


def _integer(y: int, weight: sp.Expr) -> _Check:
    t = [weight * int(j == y) + _t[j] for j in range(K)]
    mass = weight + _mass
    loss = mass * _lse + _c * _lse**2 - sum(t[j] * _z[j] for j in range(K))
    return loss, _z, [(mass + 2 * _c * _lse) * _p[j] - t[j] for j in range(K)]


def _softmax() -> _Check:
    g = _t  # a cotangent
    inner = sum(p * w for p, w in zip(_p, g, strict=True))
    return inner, _z, [_p[j] * (g[j] - inner) for j in range(K)]


def _log_softmax() -> _Check:
    value = sum(_t[j] * (_z[j] - _lse) for j in range(K))
    return value, _z, [_t[j] - _p[j] * _mass for j in range(K)]


def _focal() -> _Check:
    loss, wrong = -sp.log(_p[0]), 1 - _p[0]
    slope = wrong**_gamma * (1 + _gamma * _p[0] * loss / wrong)
    return wrong**_gamma * loss, _z, [slope * (_p[j] - int(j == 0)) for j in range(K)]


def _poly() -> _Check:
    loss = -sum(_t[j] * sp.log(_p[j]) - _e * _t[j] * (1 - _p[j]) for j in range(K))
    inner = sum(_p[j] * _t[j] for j in range(K))
    closed = [_mass * _p[j] - _t[j] - _e * _p[j] * (_t[j] - inner) for j in range(K)]
    return loss, _z, closed


def _sigmoid_focal() -> _Check:
    slope = (1 - 2 * _b) * _up * _down / _wrong
    pull = (1 - _b) * _up - _b * _down
    closed = _wrong**_gamma * (_gamma * slope * _binary + pull)
    return _wrong**_gamma * _binary, (_x,), [closed]


def _two(loss: sp.Expr, by_t: list[sp.Expr], by_q: list[sp.Expr]) -> _Check:
    return loss, _t + _q, by_t + by_q


CHECKS: dict[str, Callable[[], _Check]] = {
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "logsumexp": lambda: (_lse, _z, _p),
    "entropy": lambda: (
        -sum(t * sp.log(t) for t in _t), _t, [-(sp.log(t) + 1) for t in _t],
    ),
    "cross_entropy": lambda: _two(
        -sum(t * sp.log(q) for t, q in zip(_t, _q, strict=True)),
        [-sp.log(q) for q in _q],
        [-t / q for t, q in zip(_t, _q, strict=True)],
    ),
    "relative_entropy": lambda: _two(
        sum(t * sp.log(t / q) for t, q in zip(_t, _q, strict=True)),
        [sp.log(t / q) + 1 for t, q in zip(_t, _q, strict=True)],
        [-t / q for t, q in zip(_t, _q, strict=True)],
    ),
    "kl_divergence": lambda: (
        sum(t * (sp.log(t) - z) for t, z in zip(_t, _z, strict=True)),
        _z + _t,
        [-t for t in _t] + [sp.log(t) - z + 1 for t, z in zip(_t, _z, strict=True)],
    ),
    "softmax_cross_entropy": lambda: _integer(0, sp.Integer(0)),
    "softmax_cross_entropy_with_integer_labels": lambda: _integer(1, _a),
    "sigmoid_binary_cross_entropy": lambda: (
        -_a * _b * sp.log(_up) - (1 - _b) * sp.log(_down),
        (_x,),
        [(1 - _b) * _up - _a * _b * _down],
    ),
    "sigmoid_focal_loss": _sigmoid_focal,
    "softmax_focal_loss": _focal,
    "poly_loss_cross_entropy": _poly,
    "softcap": lambda: (_c * sp.tanh(_x / _c), (_x,), [1 / sp.cosh(_x / _c) ** 2]),
}  # fmt: skip


def check(name: str) -> bool:
    """Whether the derivative of the textbook loss is the closed form; undecided is no."""
    loss, variables, closed = CHECKS[name]()
    return len(variables) == len(closed) and all(
        _is_zero(sp.diff(loss, v) - g) for v, g in zip(variables, closed, strict=True)
    )


def _is_zero(expression: sp.Expr) -> bool:
    """Decided by simplification alone: numbers never stand in for it."""
    expanded = sp.expand_log(sp.expand(expression.rewrite(sp.exp)), force=True)
    if sp.simplify(expanded) == 0:
        return True
    return sp.simplify(sp.together(expression.rewrite(sp.exp))) == 0
