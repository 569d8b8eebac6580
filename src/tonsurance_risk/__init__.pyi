"""The public names, each beside the module that has it: the one list, for Python and for type checkers."""

from . import errors as errors, plots as plots, sources as sources, storage as storage
from .assessment import assess as assess
from .assets import STABLECOINS as STABLECOINS, get_asset as get_asset
from .core.alerts import Alert as Alert
from .core.alignment import align_prices as align_prices
from .core.backtest import VarBacktest as VarBacktest, backtest_var as backtest_var
from .core.backtest_shortfall import (
    ShortfallBacktest as ShortfallBacktest,
    backtest_expected_shortfall as backtest_expected_shortfall,
)
from .core.consensus import (
    ConsensusPrices as ConsensusPrices,
    confirm_events as confirm_events,
    consensus_prices as consensus_prices,
)
from .core.contagion import (
    co_depegs as co_depegs,
    coin_clusters as coin_clusters,
    contagion_pairs as contagion_pairs,
    pairs_by_risk_level as pairs_by_risk_level,
    tail_dependence as tail_dependence,
)
from .core.correlation import CorrelationMatrix as CorrelationMatrix, PsdRepair as PsdRepair
from .core.depeg import detect_depegs as detect_depegs, events_to_frame as events_to_frame
from .core.detector import DepegDetector as DepegDetector
from .core.explanation import (
    EarlierRun as EarlierRun,
    Explanation as Explanation,
    MeasureChange as MeasureChange,
    explain_change as explain_change,
)
from .core.marginal import MarginalRisk as MarginalRisk, marginal_risk as marginal_risk
from .core.measures import expected_shortfall as expected_shortfall, value_at_risk as value_at_risk
from .core.portfolio import PortfolioMetrics as PortfolioMetrics, portfolio_metrics as portfolio_metrics
from .core.quality import (
    QualityReport as QualityReport,
    QualityRules as QualityRules,
    check_prices as check_prices,
)
from .core.recommendations import Recommendation as Recommendation
from .core.regimes import RegimeChange as RegimeChange, correlation_regime_change as correlation_regime_change
from .core.remedies import Clearing as Clearing, Remedy as Remedy, apply_remedy as apply_remedy
from .core.replay import EventReplay as EventReplay, replay_event as replay_event
from .core.result_checks import check_correlation as check_correlation, check_events as check_events
from .core.returns import log_returns as log_returns
from .core.reverse_stress import ReverseStress as ReverseStress, reverse_stress as reverse_stress
from .core.scenarios import (
    builtin_scenarios as builtin_scenarios,
    sample_scenarios as sample_scenarios,
    scenarios_from_events as scenarios_from_events,
)
from .core.sensitivity import (
    CorrelationSensitivity as CorrelationSensitivity,
    correlation_sensitivity as correlation_sensitivity,
)
from .core.simulation import (
    LossSample as LossSample,
    adaptive_simulation_count as adaptive_simulation_count,
    simulate_losses as simulate_losses,
)
from .core.statistics import DepegStatistics as DepegStatistics, depeg_statistics as depeg_statistics
from .core.stress import StressResult as StressResult, stress_test as stress_test
from .core.volatility import estimate_volatility as estimate_volatility
from .core.windows import (
    correlation_matrix as correlation_matrix,
    correlation_windows as correlation_windows,
    rolling_correlation as rolling_correlation,
)
from .errors import (
    InsufficientDataError as InsufficientDataError,
    InvalidPriceError as InvalidPriceError,
    RiskError as RiskError,
    UnknownAssetError as UnknownAssetError,
)
from .inputs import (
    KnownDepeg as KnownDepeg,
    known_depegs as known_depegs,
    read_vault as read_vault,
    sample_vault as sample_vault,
    simulate_again as simulate_again,
)
from .model import (
    AccruingPeg as AccruingPeg,
    Asset as Asset,
    DepegEvent as DepegEvent,
    Estimate as Estimate,
    FixedPeg as FixedPeg,
    Policy as Policy,
    Scenario as Scenario,
    Vault as Vault,
)
from .report import RiskReport as RiskReport
from .reporting import (
    render_html as render_html,
    report_schema as report_schema,
    save_report as save_report,
)
from .runner import RunResult as RunResult, run_daily as run_daily, run_weekly as run_weekly
from .storage import open_store as open_store
from .version import __version__ as __version__
