"""What the prover says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

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
    """What was proved, as a SymPy expression."""
    seconds: float = 0.0

    @property
    def proved(self) -> bool:
        """Whether the claim holds for all sizes."""
        return self.status == "proved"
