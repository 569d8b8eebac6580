"""Serve five questions over HTTP, with FastAPI: the library is imported, and nothing of it knows of the web.

Usage: python examples/service.py [PORT]; needs the extra `examples`. The schema is at /openapi.json.

    curl localhost:8000/assets
    curl localhost:8000/value-at-risk -H 'content-type: application/json' -d '{"n": 10000, "level": 0.99}'

Without a vault a question is about the sample vault. What the library refuses is a 422 with its message.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from typing import Annotated, Any

import pandas as pd
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

import tonsurance_risk as tr

app = FastAPI(title="Depeg risk", docs_url=None, redoc_url=None)  # their pages load scripts from elsewhere
VOLATILITY = {asset.symbol: 0.002 for asset in tr.STABLECOINS} | {"BTC": 0.1}

Simulations = Annotated[int, Field(ge=1_000, le=1_000_000)]


class PolicyBody(BaseModel):
    """A policy, as in a vault file."""

    policy_id: str
    asset: str
    coverage: float
    trigger_price: float
    floor_price: float

    def policy(self) -> tr.Policy:
        """Return it; the library checks the numbers."""
        return tr.Policy(**self.model_dump())


class Book(BaseModel):
    """A vault, as in a vault file."""

    capital: float
    btc_value: float = 0.0
    policies: list[PolicyBody] = Field(max_length=10_000)

    def vault(self) -> tr.Vault:
        """Return it."""
        return tr.Vault(self.capital, [one.policy() for one in self.policies], btc_value=self.btc_value)


class Question(BaseModel):
    """What is asked of a vault."""

    book: Book | None = None
    n: Simulations = 100_000
    seed: int = Field(0, ge=0)
    level: float = 0.99

    def sample(self, **arguments: Any) -> tr.LossSample:
        """Simulate its losses with the built-in scenarios."""
        vault = self.book.vault() if self.book else tr.sample_vault()
        return tr.simulate_losses(
            vault, tr.builtin_scenarios(), volatility=VOLATILITY, n=self.n, seed=self.seed, **arguments
        )


class NewPolicy(Question):
    """A policy that may be sold on top."""

    policy: PolicyBody


class Prices(BaseModel):
    """Prices of one coin, in order of time."""

    asset: str
    times: list[datetime] = Field(max_length=100_000)
    prices: list[float]
    threshold: float = 0.99
    sample_seconds: float = Field(0.0, ge=0.0)


@app.exception_handler(tr.RiskError)
@app.exception_handler(ValueError)
def refused(_request: Request, error: Exception) -> JSONResponse:
    """Tell what the library refuses in its words, which name the argument and what is accepted."""
    return JSONResponse({"error": type(error).__name__, "detail": str(error)}, status_code=422)


# Plain functions, not coroutines: FastAPI runs them in threads, so that one simulation stops nobody else.
@app.get("/assets")
def assets() -> list[dict[str, str]]:
    """Return the coins that are known."""
    return [{"symbol": one.symbol, "name": one.name, "peg": type(one.peg).__name__} for one in tr.STABLECOINS]


@app.post("/depegs")
def depegs(question: Prices) -> list[dict[str, Any]]:
    """Return the depegs in prices."""
    if len(question.times) != len(question.prices):
        raise ValueError(f"{len(question.times)} times, but {len(question.prices)} prices")
    series = pd.Series(question.prices, pd.DatetimeIndex(question.times), name=question.asset, dtype=float)
    span = timedelta(seconds=question.sample_seconds)
    events = tr.detect_depegs(series, threshold=question.threshold, direction="both", sample_span=span)
    return [event.to_dict() for event in events]


@app.post("/value-at-risk")
def value_at_risk(question: Question) -> dict[str, Any]:
    """Return value at risk and expected shortfall with their intervals, and who contributes."""
    sample = question.sample()
    return {
        "value_at_risk": sample.value_at_risk(question.level).to_dict(),
        "expected_shortfall": sample.expected_shortfall(question.level).to_dict(),
        "contributions": sample.contributions(question.level).to_dict(),
        "n": sample.n,
        "seed": sample.seed,
    }


@app.post("/stress")
def stress(question: Question) -> dict[str, Any]:
    """Return what each built-in scenario costs."""
    vault = question.book.vault() if question.book else tr.sample_vault()
    return tr.stress_test(vault, tr.builtin_scenarios()).to_dict()


@app.post("/marginal-risk")
def marginal_risk(question: NewPolicy) -> dict[str, Any]:
    """Return what one more policy would change."""
    return tr.marginal_risk(question.sample(), question.policy.policy(), levels=[question.level]).to_dict()


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
