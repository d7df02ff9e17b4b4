"""What a prover answers."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Status = Literal["proved", "refuted", "unknown", "refused"]


@dataclass(frozen=True)
class Verdict:
    """One answer; only "proved" is a success."""

    status: Status
    counterexample: dict[str, np.ndarray] | None = None
    assumptions: tuple[str, ...] = ()
    reason: str = ""
    identity: Any = None
    seconds: float = 0.0

    @property
    def proved(self) -> bool:
        """Whether the claim was proved."""
        return self.status == "proved"
