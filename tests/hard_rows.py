"""Makes, for each dtype, rows of logits on which softmax losses are hard to compute."""

import functools

import jax.numpy as jnp
import numpy as np

CLASSES = 64  # in most of the rows, so that few shapes are compiled


class _Rows(dict):
    """A dictionary {name: (logits, label)}, with methods that draw its rows."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype, self.rng = jnp.dtype(dtype), np.random.default_rng(0)
        self.info = jnp.finfo(dtype)
        self.largest = float(self.info.max)
        self.huge = 1e4 if dtype == "float16" else 1e30
        self.small = 1e-4 if dtype == "float16" else 1e-30
        self.single = dtype != "float64"  # half precision is computed in float32

    def add(self, name, z, y=0):
        z = np.clip(np.asarray(z, np.float64), -np.inf, self.largest)
        self[name] = z.astype(self.dtype), y

    def normal(self, k, y=0, gap=None, second=None):
        """Draws N(0, 1), but puts the label and class 3 this far above the largest of the rest."""
        z = self.rng.normal(size=k)
        top = np.delete(z, [y, 3] if second is not None else [y]).max()
        if second is not None:
            z[3] = top + second
        if gap is not None:
            z[y] = top + gap
        return z


def _stairs(*steps):
    """Returns logits that are ``steps`` for the first classes and tie at 0 for the others."""
    return np.concatenate([steps, np.zeros(CLASSES - len(steps))])


@functools.cache
def hard_rows(dtype):
    """Returns the hard rows of a dtype, {name: (logits, label)}."""
    rows = _Rows(dtype)
    _gaps(rows)
    _offsets_and_ties(rows)
    _sizes(rows)
    return dict(rows)


def _gaps(rows):
    k, gaps = CLASSES, [1, 5, 10, 15, 20, 24, 30, 40, 50, 60, 70]
    rows.add("N(0, 1), 1000 classes", rows.normal(1000))
    rows.add("N(0, 10^2), 1000 classes", 10 * rows.normal(1000))
    rows.add("N(0, 1)", rows.normal(k))
    rows.add("N(0, 100^2)", 100 * rows.normal(k))
    for gap in gaps if rows.single else [*gaps, 200, 400, 650]:
        rows.add(f"gap {gap}", rows.normal(k, 7, gap), 7)
        rows.add(f"gap {-gap}", rows.normal(k, 7, 0, gap), 7)
    for second in (4, 10) if rows.single else (4, 12, 20, 30):
        rows.add(f"label 10 over a class {second} ahead", rows.normal(k, 0, 10 + second, second))
        rows.add(f"label .3 behind a class {second} ahead", rows.normal(k, 0, second - 0.3, second))
    rows.add("gap 15, 1000 classes", rows.normal(1000, 7, 15), 7)
    rows.add("gap -6, 1000 classes", rows.normal(1000, 7, 0, 6), 7)
    rows.add("gap 20, all + 100", 100 + rows.normal(k, 0, 20))
    rows.add("evenly spaced", -0.37 * np.arange(k), 20)


def _offsets_and_ties(rows):
    k, eps = CLASSES, rows.info.eps
    rows.add("all + 1e4", 1e4 + rows.normal(k))
    rows.add("all - 1e4", -1e4 + rows.normal(k))
    odd = np.arange(k) % 2 == 1
    rows.add("half the logits -inf", np.where(odd, -np.inf, rows.normal(k)))
    rows.add("half the logits -inf, gap 20", np.where(odd, -np.inf, rows.normal(k, 0, 20)))
    rows.add("all but the label -inf", np.where(np.arange(k), -np.inf, 0.3))
    rows.add("all but two -inf", np.where(np.arange(k) > 1, -np.inf, rows.normal(k)))
    rows.add("all tied", np.full(k, 0.1))
    rows.add("all tied at a huge number", np.full(k, rows.huge))
    rows.add("three tied at 1e8", np.full(3, min(1e8, rows.huge)))
    for side in (-eps, eps):
        z = rows.normal(k, 0, None, 3)
        z[0] = z[3] + side * abs(z[3])
        rows.add(f"label just {'ahead of' if side > 0 else 'behind'} another", z)
    rows.add("two classes, label just behind", [1, 1 + eps])
    rows.add("label at about 1/2, 1000 classes", np.where(np.arange(1000), 0, np.log(999)))


def _sizes(rows):
    k = CLASSES
    rows.add("label very low", _stairs(2.3, 0.7, 0, 0, 0, -rows.huge), 5)
    rows.add("another class very low", _stairs(0.1, -rows.huge))
    rows.add("all very low", np.full(k, -rows.huge) + rows.normal(k))
    rows.add("label at -80.7", _stairs(-80.7))
    rows.add("huge", rows.huge * rows.normal(k))
    rows.add("huge, two tied", [rows.huge, rows.huge, -rows.huge])
    rows.add("the loss overflows", [-rows.largest, rows.largest, 0])
    rows.add("one class", [0.7])
    rows.add("two classes", [0.7, 0.1])
    rows.add("two classes, gap 20", [20.1, 0.1])
    rows.add("two tied", [0.3, 0.3])
    rows.add("tiny", rows.small * rows.normal(k))
    rows.add("two classes, tiny", rows.small * rows.rng.normal(size=2))


@functools.cache
def rows_of_ties(dtype):
    """Returns rows of ties, whose rounding errors in a sum are alike and may all have one sign.

    Exponentials just below half a place of the largest are all lost if they are added one by one.
    """
    rows = _Rows(dtype)
    behind = 16.66 if rows.single else 36.75
    rows.add("another class ahead of ties", _stairs(behind), 1)
    rows.add("label ahead of ties", _stairs(behind))
    rows.add("label second of two ahead of ties", _stairs(behind, behind - 0.1), 1)
    rows.add("label over a class ahead of ties", _stairs(behind + 14, behind))
    rows.add("gap 80, the others tied", _stairs(80))
    rows.add("label tied with another, 20 ahead", _stairs(20, 20))
    rows.add("label just behind another, ahead of ties", _stairs(1 - rows.info.eps, 1))
    rows.add("label at about 1/2", _stairs(np.log(CLASSES - 1)))
    return dict(rows)


def by_size(rows):
    """Yields names, stacked logits and labels of the rows with each number of classes."""
    groups = {}
    for name, (z, y) in rows.items():
        groups.setdefault(len(z), []).append((name, z, y))
    for group in groups.values():
        names, z, y = zip(*group, strict=True)
        yield names, np.stack(z), np.array(y)


def stacked(dtype):
    """Returns names, logits and labels of the hard rows of ``CLASSES`` classes."""
    return next(group for group in by_size(hard_rows(dtype)) if group[1].shape[1] == CLASSES)
