"""The only place that orders effects: fetch, store, assess, write."""

from tonsurance_risk.runner.daily import RunResult, run_daily

__all__ = ["RunResult", "run_daily"]
