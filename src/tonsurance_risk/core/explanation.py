"""Why the value at risk changed from one run to the next: Shapley values of what the runs were made from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import numpy as np
import pandas as pd
from scipy import special

from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.core.intervals import FEW_TAIL_LOSSES
from tonsurance_risk.core.measures import exact_level, tail_rank
from tonsurance_risk.core.run_changes import run_changes
from tonsurance_risk.core.sample import LossSample, refuse_added
from tonsurance_risk.core.sampling import Sampling
from tonsurance_risk.core.simulation import simulate_losses
from tonsurance_risk.model import Estimate, Scenario, Vault
from tonsurance_risk.values import FloatArray, iso

PARTS = ("vault", "prices_and_volatility", "correlations", "scenarios", "sampling_noise")
GROUPS = 32
"""Groups of simulations whose means tell how much a part varies: every 32nd simulation, of all scenarios alike."""
METHOD = "Shapley value, influence of each simulation in 32 groups"
MEASURES = ("var", "cvar")
INDEPENDENT: tuple[Sampling, ...] = ("stratified", "plain")
"""Kinds of sampling whose simulations are independent of each other, given their scenarios."""


@attrs.frozen(kw_only=True)
class MeasureChange:
    """How one measure changed, and the part of each input in it.

    Parameters
    ----------
    before, after : float
        The measure of both runs [USD].
    change : Estimate
        The sum of the parts, ``after - before`` [USD].
    parts : dict of Estimate
        By input [USD]; one that did not change has exactly 0.
    """

    before: float
    after: float
    change: Estimate
    parts: Mapping[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in JSON types."""
        return attrs.asdict(self)


@attrs.frozen(kw_only=True)
class Explanation:
    """Why measures of the loss changed from one run to the next.

    Parameters
    ----------
    measures : dict of MeasureChange
        By measure: var_95 and cvar_95 (the expected shortfall) at level 0.95, and so on.
    drivers : dict
        What is different in the inputs, by part; see `run_changes`.
    n_runs : int
        How many runs were compared.
    """

    measures: Mapping[str, MeasureChange]
    drivers: Mapping[str, Any] = attrs.field(repr=False)
    n_runs: int

    def to_frame(self) -> pd.DataFrame:
        """Return a table by (measure, part), "change" being their sum: value, low, high, standard_error [USD]."""
        rows = {
            (measure, part): (estimate.value, estimate.low, estimate.high, estimate.standard_error)
            for measure, change in self.measures.items()
            for part, estimate in (*change.parts.items(), ("change", change.change))
        }
        return pd.DataFrame(
            list(rows.values()),
            index=pd.MultiIndex.from_tuples(rows, names=["measure", "part"]),
            columns=["value", "low", "high", "standard_error"],
            dtype="Float64",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything in JSON types."""
        return {
            "method": "shapley",
            "n_runs": self.n_runs,
            "measures": {name: change.to_dict() for name, change in self.measures.items()},
            "drivers": dict(self.drivers),
        }


@attrs.frozen(kw_only=True)
class EarlierRun:
    """The run of an earlier report.

    Parameters
    ----------
    as_of : Timestamp
        Of that report.
    run_inputs_sha256 : str
        Under which the store has what it was made from.
    sample : LossSample
        Its run, simulated again.
    published : dict of float
        What that report said of each measure [USD].
    """

    as_of: pd.Timestamp
    run_inputs_sha256: str
    sample: LossSample = attrs.field(repr=False)
    published: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return what it takes to find it again, in JSON types."""
        return {
            "as_of": iso(self.as_of),
            "run_inputs_sha256": self.run_inputs_sha256,
            "published": dict(self.published),
        }


def explain_change(
    before: LossSample, after: LossSample, *, levels: Sequence[float] = (0.95, 0.99)
) -> Explanation:
    """Explain why the value at risk and the expected shortfall changed from one run to the next.

    Parameters
    ----------
    before, after : LossSample
        Of "stratified" or "plain" sampling, all losses kept.
    levels : sequence of float
        Of both measures.

    Returns
    -------
    Explanation
        Parts: vault, prices_and_volatility, correlations, scenarios, and sampling_noise, which is the effect of
        another n, seed or kind of sampling.

    Raises
    ------
    ValueError
        If an argument is outside what is accepted.

    Notes
    -----
    With N the inputs that differ and v(S) the measure of a run that has the inputs S of `after` and the others of
    `before`, the part of input i is its Shapley value [1]_, the mean over all orders in which the inputs could
    have been replaced one by one::

        sum over S of N without i of  |S|! (|N| - |S| - 1)! / |N|!  (v(S + i) - v(S))

    The parts sum to the change, whatever the order, and an input without effect has none [2]_. Both runs of a
    difference have the same n, seed and sampling unless it is these that are replaced: common random numbers. It
    takes ``2^|N|`` runs, at most 32.

    The standard error of a part comes from the influence of each simulation on it: on a value at risk whether its
    loss lies beyond, times the slope of the quantile [3]_ between the losses two standard errors away [4]_; on an
    expected shortfall its excess. The influences on all runs of the simulations with one number are added, so that
    what their common draws cancel is cancelled, and their means over 32 groups give the error; intervals are
    Student's with 31 degrees of freedom. They tell what other draws would change, not whether the model is right.

    A symbol whose volatility only one run knows has that volatility in all runs, so that what a new coin brings is
    part of the vault.

    References
    ----------
    .. [1] L. S. Shapley, "A value for n-person games", in Contributions to the Theory of Games II, Princeton
       University Press 1953, 307-317, doi:10.1515/9781400881970-018.
    .. [2] A. F. Shorrocks, "Decomposition procedures for distributional analysis: a unified framework based on the
       Shapley value", Journal of Economic Inequality 11 (2013) 99-126, doi:10.1007/s10888-011-9214-z.
    .. [3] R. R. Bahadur, "A note on quantiles in large samples", Annals of Mathematical Statistics 37 (1966)
       577-580, doi:10.1214/aoms/1177699450.
    .. [4] R. S. Woodruff, "Confidence intervals for medians and other position measures", Journal of the American
       Statistical Association 47 (1952) 635-646, doi:10.1080/01621459.1952.10483443.

    Examples
    --------
    >>> from tonsurance_risk import Policy
    >>> vault = Vault(1_000_000.0, [Policy("P1", "USDC", 100_000.0, 0.75, 0.25)])
    >>> run, calm = Scenario("run", 0.25, prices={"USDC": 0.5}), Scenario("calm", 0.75)
    >>> before = simulate_losses(vault, [run, calm])
    >>> larger = Vault(1_000_000.0, [Policy("P1", "USDC", 120_000.0, 0.75, 0.25)])
    >>> change = explain_change(before, simulate_losses(larger, [run, calm])).measures["var_95"]
    >>> change.before, change.after, change.parts["vault"].value, change.parts["scenarios"].value
    (50000.0, 60000.0, 10000.0, 0.0)
    """
    for name, sample in (("before", before), ("after", after)):
        _check_sample(sample, name)
    if not isinstance(levels, Sequence) or not levels:
        raise ValueError(f"levels must be a sequence of at least one number in (0, 1), found {levels!r}")
    for level in levels:
        exact_level(level)
    first, then = _inputs(before, after), _inputs(after, before)
    changed = [place for place in range(len(PARTS)) if not _equal(first[place], then[place])]
    runs = [
        before,
        *(_simulated(_mixed(first, then, changed, chosen)) for chosen in range(1, (1 << len(changed)) - 1)),
    ]
    values = np.stack([_measured(sample, levels) for sample in (*runs, *([after] if changed else []))])
    shares = dict(zip((PARTS[place] for place in changed), _shapley(values), strict=True))
    zero = np.zeros(values.shape[1:])
    fewest = min(before.n, after.n)

    def estimate(level: float, value: float, deviations: FloatArray) -> Estimate:
        return attrs.evolve(
            _estimate(value, deviations, float(fewest * (1 - exact_level(level)))), n=fewest, seed=after.seed
        )

    measures = {
        name: _change(
            values[0, k],
            values[-1, k],
            {part: shares.get(part, zero)[k] for part in PARTS},
            partial(estimate, level),
        )
        for k, (name, level) in enumerate(
            (f"{kind}_{100 * level:g}", level) for kind in MEASURES for level in levels
        )
    }
    return Explanation(measures=measures, drivers=run_changes(before, after), n_runs=len(values))


def explained(before: EarlierRun | None, after: LossSample) -> dict[str, Any]:
    """Return the section of a report on the change since an earlier one; without one None with a reason."""
    if before is None:
        return {"var_explanation": None, "var_explanation_reason": "there is no earlier report with its inputs"}
    section = explain_change(before.sample, after).to_dict()
    for name, change in section["measures"].items():
        change["published_before"] = before.published.get(name)
    return {"var_explanation": {"since": iso(before.as_of), **section}}


@attrs.frozen
class _Draws:
    """What a run is drawn with, beside its inputs."""

    n: int
    seed: int
    sampling: Sampling


_Inputs = tuple[Vault, Mapping[str, float], CorrelationMatrix | None, tuple[Scenario, ...], _Draws]
"""In the order of `PARTS`."""


def _check_sample(sample: Any, name: str) -> None:
    if not isinstance(sample, LossSample):
        raise ValueError(f"{name} must be a LossSample, found {type(sample).__name__}")
    if sample.sampling not in INDEPENDENT:
        raise ValueError(f"{name} must be of one of the samplings {list(INDEPENDENT)}, found {sample.sampling!r}")
    if sample.keep != "all":
        raise ValueError(f"{name} must hold all losses, found keep={sample.keep!r}")
    refuse_added(sample, name)


def _inputs(sample: LossSample, other: LossSample) -> _Inputs:
    """Return the inputs of a run, so completed from the other that they can be mixed."""
    inputs, vault = sample.inputs, sample.inputs.vault
    own = {asset.symbol for asset in vault.assets}
    # The other's scenarios may name its own coins.
    others = [asset for asset in other.inputs.vault.assets if asset.symbol not in own]
    completed = attrs.evolve(vault, assets=(*vault.assets, *others))
    volatility = {**other.inputs.volatility, **inputs.volatility}
    draws = _Draws(sample.n, sample.seed, sample.sampling)
    return completed, volatility, inputs.correlation, inputs.scenarios, draws


def _equal(one: Any, other: Any) -> bool:
    """Return whether two inputs are the same; of correlations only the values count, not what they rest on."""
    if isinstance(one, CorrelationMatrix) and isinstance(other, CorrelationMatrix):
        return one.assets == other.assets and bool(np.array_equal(one.values, other.values))
    return bool(one == other)


def _mixed(first: _Inputs, then: _Inputs, changed: Sequence[int], chosen: int) -> _Inputs:
    """Return the inputs with those of `changed` replaced whose bits are set in `chosen`."""
    replaced = {place for bit, place in enumerate(changed) if chosen >> bit & 1}
    return tuple(then[place] if place in replaced else first[place] for place in range(len(PARTS)))  # type: ignore[return-value]


def _simulated(inputs: _Inputs) -> LossSample:
    vault, volatility, correlation, scenarios, draws = inputs
    return simulate_losses(vault, scenarios, correlation=correlation, volatility=volatility, **attrs.asdict(draws))


def _measured(sample: LossSample, levels: Sequence[float]) -> FloatArray:
    """Return VaR and expected shortfall at the levels, and how the mean of each group deviates from them.

    Shape (2 n_levels, 1 + GROUPS) [USD].
    """
    losses, group = sample.losses, np.arange(sample.n) % GROUPS
    sizes = np.maximum(np.bincount(group, minlength=GROUPS), 1)
    ranked = np.sort(losses)
    quantiles = [sample.value_at_risk(level).value for level in levels]
    shortfalls = [sample.expected_shortfall(level).value for level in levels]
    influences = [
        *(_slope(ranked, level) * (losses > quantile) for level, quantile in zip(levels, quantiles, strict=True)),
        *(
            np.maximum(losses - quantile, 0.0) / float(1 - exact_level(level))
            for level, quantile in zip(levels, quantiles, strict=True)
        ),
    ]
    deviations = [
        np.bincount(group, influence, minlength=GROUPS) / sizes - influence.mean() for influence in influences
    ]
    return np.column_stack([[*quantiles, *shortfalls], deviations])


def _slope(ranked: FloatArray, level: float) -> float:
    """Return by how much the quantile falls when the share of losses above it does, from its neighbours [USD].

    They are two standard errors of a plain sample away to both sides: the estimate of Woodruff's interval.
    """
    n, rank = len(ranked), tail_rank(len(ranked), level)
    reach = math.ceil(2.0 * math.sqrt(n * level * (1.0 - level)))
    low, high = max(rank - 1 - reach, 0), min(rank - 1 + reach, n - 1)
    return float(ranked[high] - ranked[low]) * n / (high - low) if high > low else 0.0


def _shapley(values: FloatArray) -> list[FloatArray]:
    """Return the Shapley value of each player of a game.

    Parameters
    ----------
    values : ndarray of shape (2^n_players, ...)
        What each coalition is worth; player k is in coalition c where bit k of c is set.

    Returns
    -------
    list of ndarray of shape (...)
        By player.
    """
    players = len(values).bit_length() - 1
    shares = []
    for player in range(players):
        share = np.zeros(values.shape[1:])
        for coalition in range(len(values)):
            if not coalition >> player & 1:
                size = coalition.bit_count()
                weight = math.factorial(size) * math.factorial(players - size - 1) / math.factorial(players)
                share += weight * (values[coalition | 1 << player] - values[coalition])
        shares.append(share)
    return shares


def _change(
    before: FloatArray,
    after: FloatArray,
    parts: dict[str, FloatArray],
    estimate: Callable[[float, FloatArray], Estimate],
) -> MeasureChange:
    """Return the change of a measure, given values and deviations of groups: arrays of shape (1 + GROUPS,)."""
    exact = _summing_to(float(after[0] - before[0]), {part: float(values[0]) for part, values in parts.items()})
    total = math.fsum(exact.values())
    return MeasureChange(
        before=float(before[0]),
        after=float(after[0]),
        change=estimate(total, after[1:] - before[1:]),
        parts={part: estimate(exact[part], values[1:]) for part, values in parts.items()},
    )


def _summing_to(total: float, parts: dict[str, float]) -> dict[str, float]:
    """Return the parts with the smallest that is not 0 corrected by what rounding left.

    Their exact sum then rounds to the total, unless all of them are much larger than it.
    """
    moved = [part for part in parts if parts[part] != 0.0]
    if not moved:
        return parts
    smallest = min(moved, key=lambda part: abs(parts[part]))
    others = (-value for part, value in parts.items() if part != smallest)
    return parts | {smallest: math.fsum([total, *others])}


def _estimate(value: float, deviations: FloatArray, beyond: float) -> Estimate:
    """Return a part with its interval from the deviations of the groups."""
    if beyond < FEW_TAIL_LOSSES:
        note = f"only {beyond:g} losses are expected beyond the level, an interval needs {FEW_TAIL_LOSSES}"
        return Estimate(value, None, None, None, note, method=METHOD)
    error = float(deviations.std(ddof=1)) / math.sqrt(GROUPS)
    half = float(special.stdtrit(GROUPS - 1, 0.975)) * error
    return Estimate(value, value - half, value + half, error, method=METHOD)
