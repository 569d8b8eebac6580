"""What one more policy would change, on the draws of a sample that is there."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.assets import canonical, check_symbols
from tonsurance_risk.core.engine import Job
from tonsurance_risk.core.loss_model import LossModel, compile_model
from tonsurance_risk.core.measures import exact_level
from tonsurance_risk.core.sample import LossSample, refuse_added
from tonsurance_risk.core.sampling import Plan
from tonsurance_risk.core.simulation import Run
from tonsurance_risk.model import Policy
from tonsurance_risk.values import FloatArray, read_only

SINGULAR = 1e-9
"""Singular values of a factor below this times the largest are 0: those that are not are roots of eigenvalues of
at least the rounding error of a correlation, and so 1e-8 or more."""


@attrs.frozen
class MarginalRisk:
    """The effect of one new policy on the measures of a sample.

    Parameters
    ----------
    policy : Policy
        The new one.
    before, after : LossSample
        The same draws without and with it: the difference of a measure is the policy's effect, free of the noise
        of two independent runs. `after` can be neither explained nor given one more policy: simulate its vault.
    levels : tuple of float
        Of the value at risk and the expected shortfall.
    """

    policy: Policy
    before: LossSample = attrs.field(repr=False)
    after: LossSample = attrs.field(repr=False)
    levels: tuple[float, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return a table by measure: before, after, change [USD], and the standard error of before.

        Measures are expected_loss, and value_at_risk and expected_shortfall at each level.
        """
        rows = {"expected_loss": (self.before.expected_loss(), self.after.expected_loss())}
        for level in self.levels:
            for name in ("value_at_risk", "expected_shortfall"):
                rows[f"{name} {level:.15g}"] = (
                    getattr(self.before, name)(level),
                    getattr(self.after, name)(level),
                )
        return pd.DataFrame(
            [
                (before.value, after.value, after.value - before.value, before.standard_error)
                for before, after in rows.values()
            ],
            columns=["before", "after", "change", "standard_error_before"],
            index=pd.Index(list(rows), name="measure"),
            dtype="Float64",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the policy, how the sample was made, and the table in JSON types."""
        table = self.to_frame().astype(object)
        return {
            "policy": attrs.asdict(self.policy),
            "n": self.before.n,
            "seed": self.before.seed,
            "sampling": self.before.sampling,
            "measures": table.where(table.notna(), None).to_dict("index"),
        }


def marginal_risk(
    sample: LossSample,
    policy: Policy,
    *,
    levels: Sequence[float] = (0.95, 0.99),
    executor: Executor | None = None,
) -> MarginalRisk:
    """Return what one new policy would change, on the draws of `sample`.

    Parameters
    ----------
    sample : LossSample
        Its blocks are drawn again from their streams, so that its losses need not have been kept.
    policy : Policy
        On any asset that the sample's vault may name; its id must be new.
    levels : sequence of float
        For the value at risk and the expected shortfall.
    executor : concurrent.futures.Executor, optional
        Where blocks are computed; None: threads of this process.

    Returns
    -------
    MarginalRisk

    Raises
    ------
    ValueError
        If the policy's id is in the vault, or it is on BTC; a level is outside (0, 1); or `sample` is itself one
        with a policy more.
    UnknownAssetError
        If nobody knows its asset.

    Notes
    -----
    An asset that nothing was covered on so far takes a normal of its own from a second stream of each block,
    correlated with the others by one more row of the Cholesky factor; those of the others stay. The payout of
    the policy is added to the losses of the book before the aggregate limit, and is not tabulated.

    Examples
    --------
    >>> from tonsurance_risk import Scenario, Vault, simulate_losses
    >>> vault = Vault(1_000_000.0, [Policy("P1", "USDC", 100_000.0, 0.75, 0.25)])
    >>> sample = simulate_losses(vault, [Scenario("run", 0.25, prices={"USDC": 0.5}), Scenario("calm", 0.75)])
    >>> effect = marginal_risk(sample, Policy("P2", "USDC", 10_000.0, 0.75, 0.25), levels=[0.99])
    >>> effect.to_frame()["change"].to_dict()
    {'expected_loss': 1250.0, 'value_at_risk 0.99': 5000.0, 'expected_shortfall 0.99': 5000.0}
    """
    if not isinstance(sample, LossSample):
        raise ValueError(f"sample must be a LossSample, found {type(sample).__name__}")
    if not isinstance(policy, Policy):
        raise ValueError(f"policy must be a Policy, found {type(policy).__name__}")
    if not isinstance(levels, Sequence):
        raise ValueError(f"levels must be a sequence of numbers in (0, 1), found {levels!r}")
    for level in levels:
        exact_level(level)
    refuse_added(sample, "sample")
    inputs, coin = sample.inputs, canonical(policy.asset)
    larger = attrs.evolve(inputs.vault, policies=[*inputs.vault.policies, policy])
    check_symbols(larger)
    model, _ = compile_model(inputs.vault, inputs.scenarios, inputs.correlation, inputs.volatility, also=coin)
    added = (model.coins.index(coin), policy)
    model = attrs.evolve(model, factors=_nested(sample.model.factors, model.factors), added=added)
    job = Job(model, _extended(sample.plan, model))
    run = Run(
        job, attrs.evolve(inputs, vault=larger), sample.repair_distance, sample.keep, sample.tail_level, executor
    )
    return MarginalRisk(policy, sample, run.sample(sample.n), tuple(levels))


def _nested(before: FloatArray, factors: FloatArray) -> FloatArray:
    """Return factors of the same correlations, shape (n_scenarios, n, n), that begin with those of before.

    A row r more with ``L r = c`` and ``sqrt(1 - r'r)``, as Cholesky's algorithm has it. A singular correlation has
    other factors as well, so that those of the larger matrix need not contain those of the smaller.
    """
    size = before.shape[1]
    if size == factors.shape[1]:
        return before
    correlation = factors[:, -1:] @ factors[:, :-1].transpose(0, 2, 1)
    row = (np.linalg.pinv(before, rcond=SINGULAR) @ correlation.transpose(0, 2, 1))[:, :, 0]
    nested = np.zeros_like(factors)
    nested[:, :-1, :-1] = before
    nested[:, -1, :-1] = row
    nested[:, -1, -1] = np.sqrt(np.maximum(1.0 - (row**2).sum(axis=1), 0.0))
    return read_only(nested)


def _extended(plan: Plan, model: LossModel) -> Plan:
    """Return the plan for a model that may have one more normal, the last."""
    more = len(model.moving) - plan.n_normals
    tilt, turned = plan.tilt, plan.turned
    if tilt is not None:
        tilt = attrs.evolve(tilt, direction=np.pad(tilt.direction, ((0, 0), (0, more))))
    if turned is not None:
        turned = np.pad(turned, ((0, 0), (0, more), (0, more)))
        turned[:, plan.n_normals :, plan.n_normals :] = 1.0
    return Plan.of(model, plan.sampling, plan.seed, tilt, turned, late=more)
