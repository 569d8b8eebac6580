"""Axes, colours and letters that all figures share."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tonsurance_risk.errors import SettingsError
from tonsurance_risk.redaction import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, VERMILION = "#0072B2", "#E69F00", "#D55E00"
SKY, GREEN, PURPLE = "#56B4E9", "#009E73", "#CC79A7"
"""Colours that those who see fewer tell apart (Okabe and Ito)."""
_LABEL_WIDTH = 18
"""Letters in a line of a name."""


def axes_of(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the given axes, or new ones of a size [inches]; a `SettingsError` without matplotlib."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise SettingsError(
            "plots need matplotlib: install the extra with pip install 'tonsurance-risk[report]'"
        ) from error
    return pyplot.subplots(figsize=size, layout="constrained")[1]


def checked(value: object, name: str, kinds: type | tuple[type, ...]) -> None:
    """Refuse an argument of another type."""
    if not isinstance(value, kinds):
        accepted = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
        raise ValueError(f"{name} must be a {accepted}, found {type(value).__name__}")


def labels(names: Iterable[object], *, lines: int = 2) -> list[str]:
    r"""Return names for a chart: in at most one line or two, the rest cut, nothing invisible in them.

    Examples
    --------
    >>> labels(["USDC", "Multiple Stablecoin Failure", "x" * 10_000])
    ['USDC', 'Multiple\nStablecoin Failure', 'xxxxxxxxxxxxxxxxxx\nxxxxxxxxxxxxxxxxx…']
    """
    labels = []
    for name in names:
        # The first letters are enough: to wrap all of a very long name takes long.
        wrapped = textwrap.wrap(one_line(str(name)[: 4 * _LABEL_WIDTH]), _LABEL_WIDTH)
        if len(wrapped) > lines:
            wrapped[lines - 1 :] = [f"{wrapped[lines - 1][: _LABEL_WIDTH - 1]}…"]
        labels.append("\n".join(wrapped))
    return labels


def legend_above(axes: Axes) -> None:
    """Put the legend between the title and the axes, in as many columns as fit; names in it are no formulas."""
    handles, labels = axes.get_legend_handles_labels()
    column = 0.5 + 0.075 * max(len(line) for label in labels for line in label.splitlines())  # inch
    columns = min(max(int(width_of(axes) / column), 1), len(labels))
    legend = axes.legend(
        handles,
        labels,
        fontsize="small",
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=columns,
        frameon=False,
    )
    for entry in legend.get_texts():
        entry.set_parse_math(False)
    rows = -(-len(labels) // columns)
    axes.set_title(axes.get_title(), pad=8.0 + 14.0 * rows)


def width_of(axes: Axes) -> float:
    """Return the width of axes [inch] before any layout."""
    return float(axes.bbox.width / axes.figure.dpi) if axes.figure is not None else 0.0
