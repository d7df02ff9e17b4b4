"""Defines the verdict, which is the prover's answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

OFF_KINKS = (
    "almost everywhere: nothing is claimed of what JAX gives where pieces of the function meet, as "
    "at 0 of relu"
)
Status = Literal["proved", "refuted", "unknown", "refused"]


@dataclass(frozen=True)
class Verdict:
    """The prover's answer to one claim; only the status ``proved`` is success."""

    status: Status
    """``proved``: the claim holds for all sizes, under ``assumptions``. ``refuted``: it is wrong at
    ``counterexample``. ``unknown``: neither was shown. ``refused``: the prover does not read
    something in the code."""
    counterexample: dict[str, np.ndarray] | None = None
    """Arguments, by name, at which the claim is wrong."""
    assumptions: tuple[str, ...] = ()
    """The assumptions of the proof."""
    reason: str = ""
    """The reason that there is no proof, such as the name of a primitive; empty for a proof."""
    identity: Any = None
    """The proved result as a SymPy expression; a long program has names such as ``layer 0``."""
    seconds: float = 0.0
    claimed: Mapping[str, np.ndarray] = field(default_factory=dict)
    """The results of JAX at ``counterexample``, by names such as "the gradient to z"."""
    truth: Mapping[str, np.ndarray] = field(default_factory=dict)
    """The right results there; NaN at entries whose true value is not known, as at kinks."""
    along: Mapping[str, np.ndarray] = field(default_factory=dict)
    """The cotangents of outputs, or tangents of arguments, for which JAX gives ``claimed``."""

    @property
    def proved(self) -> bool:
        """Whether the claim holds for all sizes."""
        return self.status == "proved"

    def __str__(self) -> str:
        """Returns the status, the reason and, for a refuted claim, the evidence."""
        reason = self.reason or (OFF_KINKS if OFF_KINKS in self.assumptions else "")
        return "\n".join([f"{self.status}: {reason}", *self.evidence()])

    def evidence(self) -> list[str]:
        """Returns the counterexample as lines of Python, and the values there as comments."""
        lines = [f"{name} = {_pasted(a)}" for name, a in (self.counterexample or {}).items()]
        if any((np.asarray(g) != 1).any() for g in self.along.values()):
            lines += [
                f"# for the cotangent or tangent of {k}: {_pasted(a)}"
                for k, a in self.along.items()
            ]
        for what, claimed in self.claimed.items():
            if what in self.truth:
                lines += [f"# {what}: {_row(claimed)}", f"#   should be: {_row(self.truth[what])}"]
        return lines


def _pasted(x: np.ndarray) -> str:
    x = np.asarray(x)
    return str(x.item()) if not x.ndim else f"jnp.array({x.tolist()})"


def _row(x: np.ndarray) -> str:
    """Returns an array as one line of text, with a few digits."""
    text = np.array2string(np.asarray(x), precision=6, separator=", ", threshold=64)
    return " ".join(text.split())
