"""The risk report: what was found, and its form as a document."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, cast

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.core.alert_memory import AlertChange, OpenAlert
from tonsurance_risk.core.alerts import Alert
from tonsurance_risk.core.consensus import is_copy
from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.core.dependence import Dependence
from tonsurance_risk.core.explanation import EarlierRun
from tonsurance_risk.core.fingerprint import content_hash, prices_hash
from tonsurance_risk.core.portfolio import PortfolioMetrics
from tonsurance_risk.core.quality import QualityReport
from tonsurance_risk.core.recommendations import Recommendation
from tonsurance_risk.core.sample import histogram_range
from tonsurance_risk.core.simulation import LossSample
from tonsurance_risk.core.stress import StressResult
from tonsurance_risk.core.tables import json_rows
from tonsurance_risk.model import BTC, YEAR, DepegEvent, Scenario, Vault
from tonsurance_risk.values import iso
from tonsurance_risk.version import __version__

SCHEMA_VERSION = 2
"""Of the document; docs/reference/report.md says what changes it."""
HISTOGRAM_BINS = 50
EXCEEDANCE_LEVELS = (0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999)


@attrs.frozen(kw_only=True)
class RiskReport:
    """What `assess` found; `to_dict` gives the document that is stored and published.

    Parameters
    ----------
    as_of, generated_at : Timestamp
        The instant that the report describes, and when it was made.
    step : timedelta
        Distance of two samples.
    source : str
        Where the prices come from.
    prices : DataFrame
        The prices known at `as_of`, before the checks [USD].
    others : tuple of DataFrame
        Those of other sources, which confirmed or did not confirm.
    quality : QualityReport
        What the checks found in them.
    events : tuple of DepegEvent
        Depegs in the checked prices.
    dependence : Dependence
        How the coins move together.
    shock_window : int
        The window whose matrix the simulation used [days].
    volatility : dict of str to float
        Sigma of each simulated asset; those in `fallbacks` had to be assumed.
    vault, scenarios, metrics, stress, sample
        The book, the scenarios, and what was computed from them.
    var_trend, comparison : dict
        Against stored snapshots; None with a reason where there are none.
    explanation : dict
        Why value at risk and expected shortfall changed since the report before; None with a reason without one.
    contagion : DataFrame
        Highly correlated pairs of the shock matrix.
    alerts, recommendations : tuple
        The most severe first.
    history : DataFrame
        The stored snapshots that it was compared with.
    before : EarlierRun or None
        The run that the explanation begins with.
    open_before, open_alerts : tuple of OpenAlert
        What was open before this report, and what is after it, for the next one.
    alert_changes : tuple of AlertChange
        What is to be said of alerts, given those open before.
    """

    as_of: pd.Timestamp
    generated_at: pd.Timestamp
    step: timedelta
    source: str
    prices: pd.DataFrame = attrs.field(repr=False)
    others: tuple[pd.DataFrame, ...] = attrs.field(repr=False)
    quality: QualityReport = attrs.field(repr=False)
    events: tuple[DepegEvent, ...] = attrs.field(repr=False)
    dependence: Dependence = attrs.field(repr=False)
    shock_window: int
    volatility: dict[str, float]
    fallbacks: tuple[str, ...]
    without_prices: tuple[str, ...]
    vault: Vault = attrs.field(repr=False)
    scenarios: tuple[Scenario, ...] = attrs.field(repr=False)
    metrics: PortfolioMetrics
    stress: StressResult = attrs.field(repr=False)
    sample: LossSample
    var_trend: dict[str, Any]
    comparison: dict[str, Any]
    explanation: dict[str, Any]
    contagion: pd.DataFrame = attrs.field(repr=False)
    alerts: tuple[Alert, ...]
    recommendations: tuple[Recommendation, ...]
    history: pd.DataFrame = attrs.field(repr=False)
    before: EarlierRun | None = attrs.field(repr=False)
    open_before: tuple[OpenAlert, ...]
    open_alerts: tuple[OpenAlert, ...]
    alert_changes: tuple[AlertChange, ...]

    @property
    def shock_matrix(self) -> CorrelationMatrix:
        """The correlation of the simulation's shocks, before any repair."""
        return cast("CorrelationMatrix", self.dependence.correlations[self.shock_window])

    def run_inputs(self) -> dict[str, Any]:
        """Return what the report was made from beside prices, and what it drew from them, in JSON types."""
        return {
            "as_of": iso(self.as_of),
            "source": self.source,
            "step": _step_name(self.step),
            "vault": self.vault.to_dict(),
            "scenarios": [scenario.to_dict() for scenario in self.scenarios],
            "correlation": {
                "window_days": self.shock_window,
                "assets": list(self.shock_matrix.assets),
                "values": self.shock_matrix.values.tolist(),
            },
            "volatility": self.volatility,
            "history": json_rows(self.history.rename_axis("time").reset_index()),
            "open_alerts": [alert.to_dict() for alert in self.open_before],
            "before": None if self.before is None else self.before.to_dict(),
            "settings": {
                "n": self.sample.n,
                "seed": self.sample.seed,
                "sampling": self.sample.sampling,
                "software_version": __version__,
            },
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the report in JSON types; what cannot be computed is None with a reason beside it."""
        dependence = self.dependence.to_dict()
        since = {alert.key: iso(alert.since) for alert in self.open_alerts}
        return {
            "schema_version": SCHEMA_VERSION,
            "generated_at": iso(self.generated_at),
            "report_date": self.as_of.date().isoformat(),
            "as_of": iso(self.as_of),
            "horizon_days": YEAR.days,
            "software_version": __version__,
            "seed": self.sample.seed,
            "inputs": self._inputs(),
            "portfolio_summary": {
                "total_capital_usd": self.metrics.capital,
                "total_coverage_sold_usd": self.metrics.coverage,
                "active_policies_count": self.metrics.n_policies,
                "ltv_ratio": self.metrics.ltv,
                "utilization_rate": self.metrics.utilization,
                "diversification_score": self.metrics.diversification,
            },
            "var_analysis": self._var_analysis(),
            "stress_test_results": [
                {"scenario": str(name), "loss": float(loss)} for name, loss in self.stress.losses.items()
            ],
            "depeg_events": [event.to_dict() for event in self.events],
            "correlations": dependence["correlations"],
            "contagion": json_rows(self.contagion),
            "co_depegs": dependence["co_depegs"],
            **{name: value for name, value in dependence.items() if name.startswith("tail_dependence")},
            "data_quality": self._data_quality(),
            "historical_comparison": self.comparison,
            **self.explanation,
            "risk_alerts": [alert.to_dict() | {"since": since[alert.key]} for alert in self.alerts],
            "open_alerts": [alert.to_dict() for alert in self.open_alerts],
            "alert_changes": [change.to_dict() for change in self.alert_changes],
            "recommendations": [recommendation.to_dict() for recommendation in self.recommendations],
            "chart_data": self._chart_data(),
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON text, indented, without NaN."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    def _inputs(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "step": _step_name(self.step),
            "prices_sha256": prices_hash(self.prices),
            "rows": len(self.prices),
            "first": iso(self.prices.index[0]),
            "last": iso(self.prices.index[-1]),
            "assets": {
                str(asset): {
                    "observations": int(column.notna().sum()),
                    "first": iso(column.dropna().index[0]),
                    "last": iso(column.dropna().index[-1]),
                    "sha256": prices_hash(column.dropna().to_frame()),
                }
                for asset, column in self.prices.items()
            },
            "other_sources": [
                {
                    "source": other.attrs["vendor"],
                    "rows": len(other),
                    "prices_sha256": prices_hash(other),
                    "is_copy": is_copy(self.prices, other),
                }
                for other in self.others
            ],
            "vault_sha256": content_hash(self.vault.to_dict()),
            "run_inputs_sha256": content_hash(self.run_inputs()),
            "volatility": self.volatility,
            "fallback_volatility": list(self.fallbacks),
            "shock_window_days": self.shock_window,
            "correlation_repair_distance": self.sample.repair_distance,
            "correlation_repair": self.shock_matrix.repair().to_dict(),
            "sampling": self.sample.sampling,
        }

    def _var_analysis(self) -> dict[str, Any]:
        return {
            "var_95": self.sample.value_at_risk(0.95).to_dict(),
            "var_99": self.sample.value_at_risk(0.99).to_dict(),
            "cvar_95": self.sample.expected_shortfall(0.95).to_dict(),
            "cvar_99": self.sample.expected_shortfall(0.99).to_dict(),
            "expected_loss": self.sample.expected_loss().to_dict(),
            "probability_of_ruin": self.sample.probability_of_ruin(self.vault.capital).to_dict(),
            "worst_case": self.sample.worst,
            "best_case": self.sample.best,
            "simulations": self.sample.n,
            "converged": self.sample.converged,
            "scenarios_used": [scenario.name for scenario in self.scenarios if scenario.is_active],
            "scenario_shares": self._scenario_shares(),
            **self.var_trend,
        }

    def _scenario_shares(self) -> list[dict[str, Any]]:
        """Return how probable each scenario was taken to be, after weighting, and what it loses."""
        shares = np.diff(self.sample.model.cumulated, prepend=0.0)
        drawn = np.bincount(self.sample.scenario, minlength=len(self.scenarios)).tolist()
        return [
            {
                "name": scenario.name,
                "probability": scenario.probability,
                "weight": scenario.weight,
                "share": float(share),
                "simulations": count,
            }
            for scenario, share, count in zip(self.scenarios, shares, drawn, strict=True)
            if scenario.is_active
        ]

    def _data_quality(self) -> dict[str, Any]:
        return self.quality.to_dict() | {
            "without_prices": [
                {
                    "asset": asset,
                    "used_instead": "a fallback volatility"
                    if asset == BTC
                    else "the scenarios' prices and a fallback volatility",
                    "volatility": self.volatility[asset],
                }
                for asset in self.without_prices
            ]
        }

    def _chart_data(self) -> dict[str, Any]:
        losses = self.sample.losses
        counts, edges = np.histogram(losses, bins=HISTOGRAM_BINS, range=histogram_range(losses))
        contributions = self.sample.contribution_estimates(0.99)
        return {
            "loss_histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
            "exceedance_curve": [
                {"probability": round(1.0 - level, 9)} | self.sample.value_at_risk(level).to_dict()
                for level in EXCEEDANCE_LEVELS
            ],
            "expected_shortfall_99_contributions": {
                asset: estimate.to_dict() for asset, estimate in contributions.items()
            },
        }


def _step_name(step: timedelta) -> str:
    days, hours = step / timedelta(days=1), step / timedelta(hours=1)
    if days == int(days):
        return f"{int(days)}d"
    return f"{int(hours)}h" if hours == int(hours) else f"{step.total_seconds():g}s"
