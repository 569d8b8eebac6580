"""Backtest of expected shortfall: whether losses beyond value at risk are as many and as large as said."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from tonsurance_risk.core.backtest import SIZE, aligned
from tonsurance_risk.core.measures import exact_level
from tonsurance_risk.model import MOST_SEED
from tonsurance_risk.values import FloatArray, read_only, read_only_series, whole, within

SIZES = (SIZE, 0.01)
"""Of the tests whose critical values are given."""
DOUBTFUL = 4.0
"""A mean of the statistic under the predictive law that is this many standard errors from 0 is noted."""


@attrs.frozen
class ShortfallBacktest:
    """What a backtest of expected shortfall found, and what it could have found.

    Parameters
    ----------
    level : float
    n, n_exceptions : int
        Observations, and losses beyond value at risk.
    statistic : float
        0 on average under a right model, positive where losses were larger than said.
    p_value, p_value_error : float
        Probability of a statistic at least as large under the predictive law, and its standard error.
    critical_values : Series by size
        The model is rejected at 5 % or 1 % where the statistic is larger than this.
    null : ndarray of shape (n_replications,)
        The simulated statistics, sorted.
    alternative : str
        Under which `power` holds.
    power, power_error : float
        Probability of rejecting at 5 % under the alternative, and its standard error.
    note : str
        Says so where the simulated losses do not fit the value at risk and expected shortfall.
    """

    level: float
    n: int
    n_exceptions: int
    statistic: float
    p_value: float
    p_value_error: float
    critical_values: pd.Series = attrs.field(
        converter=read_only_series, repr=False, eq=attrs.cmp_using(eq=pd.Series.equals)
    )
    null: FloatArray = attrs.field(repr=False, eq=attrs.cmp_using(eq=np.array_equal))
    alternative: str
    power: float
    power_error: float
    note: str

    @property
    def rejected(self) -> bool:
        """Whether the model is rejected at 5 %."""
        return self.p_value <= SIZE

    def to_frame(self) -> pd.DataFrame:
        """Return a table by size: critical_value, and whether the model is rejected."""
        values = self.critical_values
        return pd.DataFrame({"critical_value": values, "rejected": self.statistic > values})

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the simulated statistics in JSON types."""
        fields = attrs.asdict(self, filter=attrs.filters.exclude("null", "critical_values"))
        values = {str(size): float(value) for size, value in self.critical_values.items()}
        return fields | {
            "critical_values": values,
            "n_replications": len(self.null),
            "rejected": self.rejected,
        }


def backtest_expected_shortfall(
    losses: ArrayLike,
    var: ArrayLike,
    expected_shortfall: ArrayLike,
    level: float,
    *,
    simulate: Callable[[np.random.Generator], ArrayLike],
    n_replications: int = 4_999,
    excess: float = 0.2,
    seed: int = 0,
) -> ShortfallBacktest:
    """Compare realised losses with the expected shortfall said before, by the second test of Acerbi and Szekely.

    Parameters
    ----------
    losses, var, expected_shortfall : array_like or Series of shape (n,)
        Loss of each period, and what was said for it [USD], in order of time; the expected shortfall is > 0 and at
        least var. Series must have the same increasing index.
    level : float
        Of both measures, in (0, 1).
    simulate : callable
        Takes a `numpy.random.Generator` and returns n losses [USD], drawn from the law that each period's value at
        risk and expected shortfall were computed from. Called `n_replications` times.
    n_replications : int
        At least 99; the p-value is at least ``1 / (n_replications + 1)``.
    excess : float
        The alternative of `power`: all losses are larger by this share, and with them the expected shortfall.
    seed : int
        Of the generator that `simulate` is given.

    Returns
    -------
    ShortfallBacktest

    Raises
    ------
    InsufficientDataError
        If there is no observation.
    ValueError
        If an argument is outside what is accepted, the series are not aligned, or `simulate` does not return n
        finite losses.

    Notes
    -----
    The statistic is ``sum over exceptions of L_t / ES_t / (n (1 - level)) - 1``, minus Z2 of Acerbi and Szekely
    [eq. 6], whose losses are negative: it is positive where losses were larger or more frequent than said, and at
    least -1. The p-value is (k + 1) / (R + 1), with k of the R simulated statistics at least as large, and a
    critical value is the order statistic beyond which the p-value is at most the size. For 250 normal losses at
    97.5 % the critical value at 5 % is 0.70.

    The mean of the simulated statistics is 0 where `simulate` has a density at the value at risk and fits the two
    measures. At an atom (value at risk is what the book loses on most days) it is below 0, and p-values are right
    all the same: they come from the simulation alone.

    References
    ----------
    C. Acerbi and B. Szekely, "Backtesting expected shortfall", Risk (December 2014), eqs. 5 and 6.

    Examples
    --------
    A model that is right, and losses of twice what it says:

    >>> from scipy.stats import norm
    >>> n, level = 250, 0.975
    >>> var = np.full(n, norm.ppf(level))
    >>> shortfall = np.full(n, norm.pdf(norm.ppf(level)) / (1 - level))
    >>> losses = 2.0 * np.random.default_rng(1).standard_normal(n)
    >>> result = backtest_expected_shortfall(
    ...     losses, var, shortfall, level, simulate=lambda rng: rng.standard_normal(n))
    >>> result.rejected, round(float(result.critical_values[0.05]), 1), result.p_value
    (True, 0.7, 0.0002)
    """
    realised, var_said = aligned("losses", losses, "var", var)
    _, said = aligned("losses", losses, "expected_shortfall", expected_shortfall)
    tail = float(1 - exact_level(level))
    if not (said > 0.0).all() or not (said >= var_said).all():
        at = int(np.argmin((said > 0.0) & (said >= var_said)))
        raise ValueError(
            f"expected_shortfall must be > 0 and at least var, found {said[at]:g} at position {at}, "
            f"where var is {var_said[at]:g}"
        )
    whole(n_replications, "n_replications", 99)
    whole(seed, "seed", 0, MOST_SEED)
    scale = 1.0 + within(excess, "excess", 0.0, open_low=True)
    n, rng = len(realised), np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed)))

    def statistic(drawn: FloatArray) -> float:
        return float(np.sum(drawn / said, where=drawn > var_said) / (n * tail) - 1.0)

    pairs = np.empty((n_replications, 2))
    for row in pairs:
        drawn = _drawn(simulate(rng), n)
        row[:] = statistic(drawn), statistic(scale * drawn)
    null, found = np.sort(pairs[:, 0]), statistic(realised)
    p_value = _share(null, found)
    sizes = pd.Index(SIZES, name="size")
    critical = pd.Series([_critical(null, size) for size in SIZES], index=sizes, name="critical_value")
    power = float(np.mean(pairs[:, 1] > critical.iloc[0]))
    return ShortfallBacktest(
        level=float(level),
        n=n,
        n_exceptions=int((realised > var_said).sum()),
        statistic=found,
        p_value=p_value,
        p_value_error=math.sqrt(p_value * (1.0 - p_value) / n_replications),
        critical_values=critical,
        null=read_only(null),
        alternative=f"every loss is {excess:.0%} larger",
        power=power,
        power_error=math.sqrt(power * (1.0 - power) / n_replications),
        note=_note(null),
    )


def _drawn(losses: ArrayLike, n: int) -> FloatArray:
    try:
        drawn = np.asarray(losses, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"simulate must return {n} losses: {error}") from error
    if drawn.shape != (n,) or not np.isfinite(drawn).all():
        raise ValueError(f"simulate must return {n} finite losses, found the shape {drawn.shape}: {drawn!r}")
    return drawn


def _share(null: FloatArray, found: float) -> float:
    at_least = len(null) - int(np.searchsorted(null, found, side="left"))
    return (at_least + 1) / (len(null) + 1)


def _critical(null: FloatArray, size: float) -> float:
    """Return the largest simulated statistic whose p-value is above the size."""
    rejected = int(size * (len(null) + 1) * (1.0 + 1e-12)) - 1
    return float(null[len(null) - rejected - 1])


def _note(null: FloatArray) -> str:
    mean, error = float(null.mean()), float(null.std()) / math.sqrt(len(null))
    if abs(mean) <= DOUBTFUL * error:
        return ""
    return (
        f"the statistic of simulated losses is {mean:.3g} on average (standard error {error:.2g}) and not 0: "
        "they have an atom at var, or are not of the law that var and expected_shortfall come from"
    )
