"""Backtests of value at risk: whether losses beyond it are as many as said, and come one by one.

Exceptions are independent of each other with probability 1 - level where the model is right. Each test looks at
one way in which that fails; what it could have seen in a sample of this size is part of the result.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs
import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike
from scipy import special

from tonsurance_risk.core.measures import checked_losses, exact_level
from tonsurance_risk.core.tables import json_rows
from tonsurance_risk.model import MOST_SEED
from tonsurance_risk.values import BoolArray, FloatArray, IntArray, read_only, whole

Zone = Literal["green", "yellow", "red"]

SIZE = 0.05
"""A test rejects where its p-value is at most this."""
YELLOW_FROM, RED_FROM = 0.95, 0.9999
"""Cumulative probabilities at which the zones of the traffic light begin [Basel Committee 1996, section III]."""
PLUS_FACTORS = (0.0, 0.0, 0.0, 0.0, 0.0, 0.40, 0.50, 0.65, 0.75, 0.85)
"""Added to the multiplier of 3 for 0 to 9 exceptions in 250 days at 99 %; 1.00 from 10 on [ibid., table 2]."""
AUTOCORRELATION = 0.25
"""Of consecutive exceptions under the alternative that they cluster."""


@attrs.frozen
class LikelihoodRatio:
    """A likelihood-ratio test: twice the logarithm of the ratio, and its asymptotic p-value.

    Parameters
    ----------
    statistic, p_value : float, optional
        None where the sample says nothing about it; `note` then says why.
    degrees_of_freedom : int
        Of the chi-square distribution of the statistic under a right model.
    """

    statistic: float | None
    p_value: float | None
    degrees_of_freedom: int
    note: str = ""


@attrs.frozen
class TrafficLight:
    """Basel's zone of a number of exceptions.

    Parameters
    ----------
    zone : {"green", "yellow", "red"}
    cumulative_probability : float
        Of that many exceptions or fewer under a right model; yellow from 95 %, red from 99.99 %.
    yellow_from, red_from : int
        The numbers of exceptions at which these zones begin.
    plus_factor : float, optional
        What Basel adds to the multiplier of 3; None but for 250 observations at 99 %, for which it was published.
    """

    zone: Zone
    cumulative_probability: float
    yellow_from: int
    red_from: int
    plus_factor: float | None


@attrs.frozen
class VarBacktest:
    """What a backtest of value at risk found, and what it could have found.

    Parameters
    ----------
    level : float
        Of the value at risk.
    exceptions : ndarray of bool of shape (n,)
        Where the loss was beyond it.
    unconditional_coverage, independence, conditional_coverage : LikelihoodRatio
        Of Kupiec; of Christoffersen, and both together.
    binomial_p_value : float
        Exact and two-sided, of the number of exceptions.
    traffic_light : TrafficLight
    power : DataFrame by test
        alternative (in words), size (probability of rejecting a right model), power (of rejecting under the
        alternative) and standard_error (of the simulated ones, 0 where both are exact sums).
    """

    level: float
    exceptions: BoolArray = attrs.field(repr=False, eq=attrs.cmp_using(eq=np.array_equal))
    unconditional_coverage: LikelihoodRatio
    independence: LikelihoodRatio
    conditional_coverage: LikelihoodRatio
    binomial_p_value: float
    traffic_light: TrafficLight
    power: pd.DataFrame = attrs.field(repr=False, eq=attrs.cmp_using(eq=pd.DataFrame.equals))

    @property
    def n(self) -> int:
        """Number of observations."""
        return len(self.exceptions)

    @property
    def n_exceptions(self) -> int:
        """Number of losses beyond the value at risk."""
        return int(self.exceptions.sum())

    @property
    def expected_exceptions(self) -> float:
        """How many a right model has on average."""
        return self.n * float(1 - exact_level(self.level))

    @property
    def transitions(self) -> IntArray:
        """How often state j followed state i, shape (2, 2); state 1 is an exception."""
        return _transitions(self.exceptions[:, None])[..., 0]

    def to_frame(self) -> pd.DataFrame:
        """Return a table by test: statistic, p_value, rejected (at 5 %), size, power, alternative, note.

        What cannot be computed is missing (`pandas.NA`).
        """
        ratios = [self.unconditional_coverage, self.independence, self.conditional_coverage]
        index, zone = self.power.index, self.traffic_light.zone
        p_values = pd.Series(
            [*(one.p_value for one in ratios), self.binomial_p_value, None], index, dtype="Float64"
        )
        statistics = [*(one.statistic for one in ratios), self.n_exceptions, self.n_exceptions]
        rejected = p_values <= SIZE
        rejected["traffic_light"] = zone != "green"
        table = self.power.assign(
            statistic=pd.Series(statistics, index, dtype="Float64"),
            p_value=p_values,
            rejected=rejected,
            note=[*(one.note for one in ratios), "", f"{zone} zone"],
        )
        return table[
            ["statistic", "p_value", "rejected", "size", "power", "standard_error", "alternative", "note"]
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the single exceptions in JSON types."""
        return {
            "level": self.level,
            "n": self.n,
            "n_exceptions": self.n_exceptions,
            "expected_exceptions": self.expected_exceptions,
            "unconditional_coverage": attrs.asdict(self.unconditional_coverage),
            "independence": attrs.asdict(self.independence),
            "conditional_coverage": attrs.asdict(self.conditional_coverage),
            "binomial_p_value": self.binomial_p_value,
            "traffic_light": attrs.asdict(self.traffic_light),
            "power": json_rows(self.power.reset_index()),
        }


def backtest_var(
    losses: ArrayLike, var: ArrayLike, level: float, *, seed: int = 0, n_simulations: int = 4_000
) -> VarBacktest:
    """Compare realised losses with the value at risk that was said before.

    Parameters
    ----------
    losses, var : array_like or Series of shape (n,)
        Loss of each period and the value at risk said for it [USD], in order of time; an exception is
        ``loss > var``. Two Series must have the same increasing index.
    level : float
        Of the value at risk, in (0, 1).
    seed, n_simulations : int
        Of the simulated sizes and powers of the tests of independence; the other ones are exact sums.

    Returns
    -------
    VarBacktest

    Raises
    ------
    InsufficientDataError
        If there is no observation.
    ValueError
        If an argument is outside what is accepted, or losses and var are not aligned.

    Notes
    -----
    With x exceptions in n periods, p = 1 - level and n_ij the transitions from state i to j (1: an exception):

    - Unconditional coverage: ``2 [x ln(x / (n p)) + (n - x) ln((n - x) / (n (1 - p)))]``, chi-square with 1 degree
      of freedom [Kupiec 1995, eq. 6].
    - Independence: twice the log likelihood of a Markov chain with the observed transition shares, less that of
      independent draws with the observed share, 1 degree of freedom [Christoffersen 1998, eqs. 6 to 9]. Where no
      observation follows an exception, or all do, one of the two shares does not exist: the statistic is None, and
      so is that of conditional coverage.
    - Conditional coverage: the sum of the two, 2 degrees of freedom [ibid., eq. 10].

    Everywhere 0 ln 0 = 0. p-values of the ratios are asymptotic; `power` says how often each test rejects a right
    model of this n. Alternatives: twice the nominal rate of exceptions (at most half-way from it to 1), exceptions
    with an autocorrelation of 0.25, and both. A sample that says nothing of independence counts as not rejected.

    Where losses equal the value at risk with positive probability (a book that loses nothing at all on most days),
    exceptions are rarer than 1 - level under a right model too, and the tests call it too careful.

    References
    ----------
    P. H. Kupiec, "Techniques for verifying the accuracy of risk measurement models", Journal of Derivatives 3
    (1995) 73-84, doi:10.3905/jod.1995.407942.

    P. F. Christoffersen, "Evaluating interval forecasts", International Economic Review 39 (1998) 841-862,
    doi:10.2307/2527341.

    Basel Committee on Banking Supervision, "Supervisory framework for the use of 'backtesting' in conjunction with
    the internal models approach to market risk capital requirements" (January 1996).

    Examples
    --------
    >>> losses = np.zeros(250)
    >>> losses[[20, 90, 91, 150, 200, 240]] = 2.0
    >>> result = backtest_var(losses, np.ones(250), 0.99)
    >>> result.n_exceptions, result.traffic_light.zone, result.traffic_light.plus_factor
    (6, 'yellow', 0.5)
    >>> round(result.unconditional_coverage.statistic, 3), round(result.independence.p_value, 3)
    (3.555, 0.12)
    """
    exceptions = _exceptions(losses, var)
    p, n, x = float(1 - exact_level(level)), len(exceptions), int(exceptions.sum())
    whole(seed, "seed", 0, MOST_SEED)
    whole(n_simulations, "n_simulations", 100)
    coverage = _coverage_ratio(x, n, p)
    independence, known = _independence_ratio(_transitions(exceptions[:, None]))
    note = "" if known[0] else "there is no observation after an exception, or none after another one"
    ratio = float(independence[0]) if known[0] else None
    return VarBacktest(
        level=float(level),
        exceptions=read_only(exceptions),
        unconditional_coverage=_test(float(coverage), 1),
        independence=_test(ratio, 1, note),
        conditional_coverage=_test(None if ratio is None else ratio + float(coverage), 2, note),
        binomial_p_value=float(scipy.stats.binomtest(x, n, p).pvalue),
        traffic_light=_traffic_light(x, n, p, level),
        power=_power(n, p, seed, n_simulations),
    )


def aligned(name: str, values: ArrayLike, other_name: str, other: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return two arrays of equal length; a `ValueError` where they are not, or two Series have other indexes."""
    if isinstance(values, pd.Series) and isinstance(other, pd.Series):
        if not values.index.equals(other.index):
            at = next((k for k, (a, b) in enumerate(zip(values.index, other.index, strict=False)) if a != b), None)
            where = f"{len(values)} and {len(other)} rows" if at is None else f"differ first at position {at}"
            raise ValueError(f"{name} and {other_name} must have the same index, found that they have {where}")
        if not (values.index.is_monotonic_increasing and values.index.is_unique):
            raise ValueError(f"the index of {name} must be strictly increasing")
    (first, _), (second, _) = checked_losses(values, None, name), checked_losses(other, None, other_name)
    if len(first) != len(second):
        raise ValueError(f"{other_name} must be as many as {name} ({len(first)}), found {len(second)}")
    return first, second


def _exceptions(losses: ArrayLike, var: ArrayLike) -> BoolArray:
    realised, said = aligned("losses", losses, "var", var)
    return np.asarray(realised > said)


def _test(statistic: float | None, degrees: int, note: str = "") -> LikelihoodRatio:
    p_value = None if statistic is None else float(scipy.stats.chi2.sf(statistic, degrees))
    return LikelihoodRatio(statistic, p_value, degrees, note)


def _coverage_ratio(x: Any, n: int, p: float) -> FloatArray:
    """Return Kupiec's statistic of x exceptions in n, of the shape of `x`."""
    share = np.asarray(x) / n
    ratio = 2.0 * n * (special.xlogy(share, share / p) + special.xlogy(1.0 - share, (1.0 - share) / (1.0 - p)))
    return np.asarray(np.maximum(ratio, 0.0))


def _transitions(states: BoolArray) -> IntArray:
    """Return how often j followed i in each column, shape (2, 2, n_columns)."""
    before, after = states[:-1], states[1:]
    both, first, second = (np.sum(s, axis=0, dtype=np.int64) for s in (before & after, before, after))
    return np.array([[len(after) - first - second + both, second - both], [first - both, both]])


def _independence_ratio(transitions: IntArray) -> tuple[FloatArray, BoolArray]:
    """Return Christoffersen's statistic of transitions, shape (n_columns,), and where it exists."""
    by_state = transitions.sum(axis=1)
    known = (by_state > 0).all(axis=0)
    after = transitions.sum(axis=0)
    share = transitions[:, 1] / np.maximum(by_state, 1)
    pooled = after[1] / np.maximum(after.sum(axis=0), 1)
    chain = special.xlogy(transitions[:, 1], share) + special.xlogy(transitions[:, 0], 1.0 - share)
    independent = special.xlogy(after[1], pooled) + special.xlogy(after[0], 1.0 - pooled)
    ratio = 2.0 * (chain.sum(axis=0) - independent)
    # What is left of equal likelihoods is rounding.
    return np.where(ratio > 1e-12 * np.abs(independent), ratio, 0.0), known


def _traffic_light(x: int, n: int, p: float, level: float) -> TrafficLight:
    yellow, red = (_zone_from(share, n, p) for share in (YELLOW_FROM, RED_FROM))
    zone: Zone = "green" if x < yellow else "yellow" if x < red else "red"
    published = n == 250 and level == 0.99
    factor = (PLUS_FACTORS[x] if x < len(PLUS_FACTORS) else 1.0) if published else None
    return TrafficLight(zone, float(scipy.stats.binom.cdf(x, n, p)), yellow, red, factor)


def _zone_from(share: float, n: int, p: float) -> int:
    """Return the smallest number whose cumulative probability is at least that; no exception is always green."""
    return max(int(scipy.stats.binom.ppf(share, n, p)), 1)


def _power(n: int, p: float, seed: int, n_simulations: int) -> pd.DataFrame:
    rate = min(2.0 * p, (1.0 + p) / 2.0)
    counts = np.arange(n + 1)
    null, alternative = scipy.stats.binom.pmf(counts, n, p), scipy.stats.binom.pmf(counts, n, rate)
    kupiec = scipy.stats.chi2.sf(_coverage_ratio(counts, n, p), 1) <= SIZE
    exact = _two_sided(null) <= SIZE
    light = counts >= _zone_from(YELLOW_FROM, n, p)
    cases = ((p, 0.0), (p, AUTOCORRELATION), (rate, AUTOCORRELATION))
    simulated = [_rejections(n, p, *case, seed, n_simulations) for case in cases]
    more, clusters = f"exceptions at a rate of {rate:.4g}", f"autocorrelation {AUTOCORRELATION:g}"
    size, power = (
        np.array([share @ kupiec, ratio[0], ratio[1], share @ exact, share @ light])
        for share, ratio in ((null, simulated[0]), (alternative, (simulated[1][0], simulated[2][1])))
    )
    # Of the larger error; shares are moved a little towards 1/2, for none seen does not mean none.
    shares = (np.array([size, power]) * n_simulations + 2.0) / (n_simulations + 4.0)
    error = np.sqrt(shares * (1.0 - shares) / n_simulations).max(axis=0)
    return pd.DataFrame(
        {
            "alternative": [more, clusters, f"{more}, {clusters}", more, more],
            "size": size,
            "power": power,
            "standard_error": np.where([False, True, True, False, False], error, 0.0),
        },
        index=pd.Index(
            ["unconditional_coverage", "independence", "conditional_coverage", "binomial", "traffic_light"],
            name="test",
        ),
    )


def _two_sided(pmf: FloatArray) -> FloatArray:
    """Return the p-value of each outcome: the probability of all outcomes that are at most as likely.

    The same rule as `scipy.stats.binomtest`, which counts as equally likely what differs by 1e-7 of it.
    """
    order = np.argsort(pmf)
    cumulated = np.append(0.0, np.cumsum(pmf[order]))
    return np.asarray(cumulated[np.searchsorted(pmf[order], pmf * (1.0 + 1e-7), side="right")])


def _rejections(
    n: int, p: float, rate: float, autocorrelation: float, seed: int, n_simulations: int
) -> tuple[float, float]:
    """Return how often independence and conditional coverage are rejected.

    Exceptions are a stationary Markov chain with that rate and first autocorrelation.
    """
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed)))
    after_none, after_one = rate * (1.0 - autocorrelation), rate + autocorrelation * (1.0 - rate)
    states = np.empty((n, n_simulations), dtype=np.bool_)
    states[0] = rng.random(n_simulations) < rate
    for t in range(1, n):
        states[t] = rng.random(n_simulations) < np.where(states[t - 1], after_one, after_none)
    independence, known = _independence_ratio(_transitions(states))
    coverage = independence + _coverage_ratio(states.sum(axis=0), n, p)
    rejected = [
        known & (scipy.stats.chi2.sf(independence, 1) <= SIZE),
        known & (scipy.stats.chi2.sf(coverage, 2) <= SIZE),
    ]
    return float(np.mean(rejected[0])), float(np.mean(rejected[1]))
