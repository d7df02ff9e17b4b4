"""What the prover says."""

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
    """One answer; only ``proved`` is success."""

    status: Status
    """``proved``: for all sizes, under ``assumptions``. ``refuted``: wrong at
    ``counterexample``. ``unknown``: neither. ``refused``: something was not read."""
    counterexample: dict[str, np.ndarray] | None = None
    """Arguments, by name, at which the claim is wrong."""
    assumptions: tuple[str, ...] = ()
    """What the proof rests on."""
    reason: str = ""
    """What stood in the way, by name; empty for a proof."""
    identity: Any = None
    """What was proved, as a SymPy expression; of a long program in products called ``layer 0``."""
    seconds: float = 0.0
    claimed: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What JAX gives at ``counterexample``, by what it is: "the gradient to z"."""
    truth: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What it should give; NaN at entries of which that is not known, at kinks."""
    along: Mapping[str, np.ndarray] = field(default_factory=dict)
    """For which cotangents of the output, or tangents of the arguments."""

    @property
    def proved(self) -> bool:
        """Whether the claim holds for all sizes."""
        return self.status == "proved"

    def __str__(self) -> str:
        """The status and why; where it is refuted, the arguments as they can be pasted."""
        reason = self.reason or (OFF_KINKS if OFF_KINKS in self.assumptions else "")
        return "\n".join([f"{self.status}: {reason}", *self.evidence()])

    def evidence(self) -> list[str]:
        """The counterexample, as assignments that can be pasted, and both gradients there."""
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
    """In one line, with a few digits."""
    text = np.array2string(np.asarray(x), precision=6, separator=", ", threshold=64)
    return " ".join(text.split())
