"""Numbers of which some do not exist: NaN inside, None outside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def known(value: float) -> float | None:
    """None for NaN."""
    return None if np.isnan(value) else float(value)


def mean_of_known(values: NDArray[np.float64]) -> float | None:
    """Mean without NaN; None when nothing is left."""
    found = values[~np.isnan(values)]
    return float(found.mean()) if found.size else None
