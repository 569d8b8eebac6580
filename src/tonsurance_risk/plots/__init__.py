"""Figures for analysts. Every function takes ``ax=None`` and returns the matplotlib Axes.

They need the extra `report`, and import nothing of it before they are called. Colours are those of Okabe and Ito,
which colour-blind readers can tell apart; hatches, line styles and markers say the same in black print. Names come
from users: they are shown as they are written, never as formulas, and long ones are cut.
"""

from tonsurance_risk.plots.losses import contributions, exceedance_curve, loss_distribution, stress
from tonsurance_risk.plots.market import (
    correlation_heatmap,
    depeg_timeline,
    price_with_events,
    rolling_correlation,
)

__all__ = [
    "contributions",
    "correlation_heatmap",
    "depeg_timeline",
    "exceedance_curve",
    "loss_distribution",
    "price_with_events",
    "rolling_correlation",
    "stress",
]
