"""Risk of stablecoin depeg cover: prices, depegs, correlation, simulated losses and a daily report.

Importing it starts nothing. Price sources are in `tonsurance_risk.sources`, stores in
`tonsurance_risk.storage`, errors in `tonsurance_risk.errors`.
"""

from tonsurance_risk import errors, plots, sources, storage
from tonsurance_risk.assessment import assess
from tonsurance_risk.assets import STABLECOINS, get_asset
from tonsurance_risk.core.alerts import Alert, Recommendation
from tonsurance_risk.core.alignment import align_prices
from tonsurance_risk.core.backtest import VarBacktest, backtest_var
from tonsurance_risk.core.backtest_shortfall import ShortfallBacktest, backtest_expected_shortfall
from tonsurance_risk.core.consensus import ConsensusPrices, confirm_events, consensus_prices
from tonsurance_risk.core.contagion import (
    co_depegs,
    coin_clusters,
    contagion_pairs,
    pairs_by_risk_level,
    tail_dependence,
)
from tonsurance_risk.core.correlation import CorrelationMatrix, PsdRepair
from tonsurance_risk.core.depeg import detect_depegs, events_to_frame
from tonsurance_risk.core.detector import DepegDetector
from tonsurance_risk.core.marginal import MarginalRisk, marginal_risk
from tonsurance_risk.core.measures import expected_shortfall, value_at_risk
from tonsurance_risk.core.portfolio import PortfolioMetrics, portfolio_metrics
from tonsurance_risk.core.quality import QualityReport, QualityRules, check_prices
from tonsurance_risk.core.regimes import RegimeChange, correlation_regime_change
from tonsurance_risk.core.replay import EventReplay, replay_event
from tonsurance_risk.core.result_checks import check_correlation, check_events
from tonsurance_risk.core.returns import log_returns
from tonsurance_risk.core.reverse_stress import ReverseStress, reverse_stress
from tonsurance_risk.core.scenarios import builtin_scenarios, sample_scenarios, scenarios_from_events
from tonsurance_risk.core.sensitivity import CorrelationSensitivity, correlation_sensitivity
from tonsurance_risk.core.simulation import LossSample, adaptive_simulation_count, simulate_losses
from tonsurance_risk.core.statistics import DepegStatistics, depeg_statistics
from tonsurance_risk.core.stress import StressResult, stress_test
from tonsurance_risk.core.volatility import estimate_volatility
from tonsurance_risk.core.windows import correlation_matrix, correlation_windows, rolling_correlation
from tonsurance_risk.errors import InsufficientDataError, InvalidPriceError, RiskError, UnknownAssetError
from tonsurance_risk.inputs import KnownDepeg, known_depegs, read_vault, sample_vault
from tonsurance_risk.model import (
    AccruingPeg,
    Asset,
    DepegEvent,
    Estimate,
    FixedPeg,
    Policy,
    Scenario,
    Vault,
)
from tonsurance_risk.report import RiskReport
from tonsurance_risk.reporting import render_html, report_schema, save_report
from tonsurance_risk.runner import RunResult, run_daily, run_weekly
from tonsurance_risk.storage import open_store
from tonsurance_risk.version import __version__

__all__ = [
    "STABLECOINS",
    "AccruingPeg",
    "Alert",
    "Asset",
    "ConsensusPrices",
    "CorrelationMatrix",
    "CorrelationSensitivity",
    "DepegDetector",
    "DepegEvent",
    "DepegStatistics",
    "Estimate",
    "EventReplay",
    "FixedPeg",
    "InsufficientDataError",
    "InvalidPriceError",
    "KnownDepeg",
    "LossSample",
    "MarginalRisk",
    "Policy",
    "PortfolioMetrics",
    "PsdRepair",
    "QualityReport",
    "QualityRules",
    "Recommendation",
    "RegimeChange",
    "ReverseStress",
    "RiskError",
    "RiskReport",
    "RunResult",
    "Scenario",
    "ShortfallBacktest",
    "StressResult",
    "UnknownAssetError",
    "VarBacktest",
    "Vault",
    "__version__",
    "adaptive_simulation_count",
    "align_prices",
    "assess",
    "backtest_expected_shortfall",
    "backtest_var",
    "builtin_scenarios",
    "check_correlation",
    "check_events",
    "check_prices",
    "co_depegs",
    "coin_clusters",
    "confirm_events",
    "consensus_prices",
    "contagion_pairs",
    "correlation_matrix",
    "correlation_regime_change",
    "correlation_sensitivity",
    "correlation_windows",
    "depeg_statistics",
    "detect_depegs",
    "errors",
    "estimate_volatility",
    "events_to_frame",
    "expected_shortfall",
    "get_asset",
    "known_depegs",
    "log_returns",
    "marginal_risk",
    "open_store",
    "pairs_by_risk_level",
    "plots",
    "portfolio_metrics",
    "read_vault",
    "render_html",
    "replay_event",
    "report_schema",
    "reverse_stress",
    "rolling_correlation",
    "run_daily",
    "run_weekly",
    "sample_scenarios",
    "sample_vault",
    "save_report",
    "scenarios_from_events",
    "simulate_losses",
    "sources",
    "storage",
    "stress_test",
    "tail_dependence",
    "value_at_risk",
]
