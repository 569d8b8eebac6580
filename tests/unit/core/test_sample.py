"""What a sample of losses is shown with."""

from __future__ import annotations

import numpy as np
import pytest

from tonsurance_risk.core.sample import histogram_range


@pytest.mark.parametrize(
    ("losses", "ends"),
    [
        ([-3.0, 0.0, 7.0], (-3.0, 7.0)),
        ([1e6, 1e6 + 1.0], (1e6, 1e6 + 1.0)),
        ([0.0, 0.0], (-0.5, 0.5)),
        ([1e6, 1e6 + 1e-4], (1e6 - 0.5, 1e6 + 1e-4 + 0.5)),
        ([-1e12, -1e12 + 500.0], (-1e12 - 1e3, -1e12 + 500.0 + 1e3)),
    ],
)
def test_the_ends_of_a_histogram(losses, ends):
    """Those of the losses; around losses that differ by less than 1e-9 of their size, where no bin has room."""
    assert ends == pytest.approx(histogram_range(np.array(losses)), rel=1e-15, abs=0.0)
