"""The only place that orders effects: fetch, store, assess, write."""

from tonsurance_risk.runner.daily import RunResult, run_daily
from tonsurance_risk.runner.weekly import run_weekly

__all__ = ["RunResult", "run_daily", "run_weekly"]
