"""The schema of the report: it takes what is written, knows every key of it and no other, and refuses what is broken."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import jsonschema
import numpy as np
import pandas as pd
import pytest

import tonsurance_risk as tr
from tonsurance_risk.errors import SourceUnavailableError
from tonsurance_risk.report import SCHEMA_VERSION
from tonsurance_risk.reporting.schema import schema_fault

SHARED = Path(__file__).parents[4] / "shared" / "data" / "prices"
DAY = timedelta(days=1)
AS_OF = pd.Timestamp("2024-12-31", tz="UTC")
MADE = datetime(2025, 1, 1, 2, 20, tzinfo=UTC)
COINS = ["USDC", "USDT", "DAI", "LUSD"]
SCHEMA = tr.report_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker(("date",)))


def market(days=400, coins=COINS, end=AS_OF):
    """Return daily prices with depegs of two coins at once."""
    rng = np.random.default_rng(0)
    index = pd.date_range(end=end, periods=days, freq="D")
    prices = pd.DataFrame(np.exp(rng.normal(0, 1e-3, (days, len(coins)))), index=index, columns=coins)
    prices["BTC"] = 4e4 * np.exp(np.cumsum(rng.normal(0, 0.03, days)))
    prices.iloc[-12:-8, :2] = 0.9
    return prices


def book(coins=COINS, **options):
    """Return a vault that covers 90 % of its capital."""
    return tr.Vault(1e6, [tr.Policy(c, c, 9e5 / len(coins), 0.97, 0.5) for c in coins], **options)


def assessed(prices=None, vault=None, **options):
    """Return the document of 2,000 simulations, as JSON gives it back."""
    arguments = {"as_of": AS_OF, "step": "1d", "generated_at": MADE, "n": 2000} | options
    report = tr.assess(market() if prices is None else prices, book() if vault is None else vault, **arguments)
    return json.loads(report.to_json())


def snapshots():
    """Return those of every day of 40."""
    days = pd.date_range(end=AS_OF - DAY, periods=40, freq="D")
    return pd.DataFrame({"var_95": 1e5, "capital": 9e5, "coverage": 5e5}, index=days)


def two_feeds():
    """Two other sources, one of which repeats the prices."""
    copied, other = market(), market() * (1.0 + 1e-5)
    copied.attrs["vendor"], other.attrs["vendor"] = "copy", "other"
    return [copied, other]


def moving_together():
    """Four coins that are nearly one; two never trade at once, so that the matrix needs a repair."""
    prices = market()
    for coin in COINS[1:]:
        prices[coin] = prices["USDC"] * (1.0 + 1e-4 * np.random.default_rng(len(coin)).normal(size=len(prices)))
    prices.iloc[-90:-45, 3] = np.nan
    prices.iloc[-45:, 2] = np.nan
    prices.iloc[-95:-45, 0] *= np.exp(np.random.default_rng(5).normal(0, 3e-3, 50))
    return prices


def spiked():
    """A print that no day around it has, and coins that stop: stale, and with alerts about it."""
    prices = market()
    prices.iloc[-100, 2] = 0.5
    prices.iloc[-5:, 1] = np.nan
    return prices


def explained():
    """Another book, other prices, scenarios and seed than the report before had."""
    scenarios = tr.builtin_scenarios()
    first = attrs.evolve(scenarios[0], weight=3.0)
    earlier = tr.assess(
        market()[["USDC", "DAI", "BTC"]],
        tr.Vault(9e5, [tr.Policy("gone", "DAI", 1e5, 0.9, 0.5), tr.Policy("USDC", "USDC", 1e5, 0.9, 0.5)]),
        scenarios=[first, *scenarios[2:], attrs.evolve(scenarios[1], name="renamed")],
        as_of=AS_OF - DAY, step="1d", generated_at=MADE, n=1000, seed=7,
    )  # fmt: skip
    before = tr.EarlierRun(
        as_of=earlier.as_of, run_inputs_sha256="0" * 64, sample=earlier.sample, published={"var_95": 1.0}
    )
    return assessed(before=before, scenarios=scenarios)


class OneFails:
    """The sample market, daily, with an asset that cannot be fetched."""

    name = "one fails"

    def fetch(self, asset, start, end, *, step="1h"):
        """Fetch, but for USDC."""
        if asset == "USDC":
            raise SourceUnavailableError("USDC: 503")
        prices = market()
        if asset not in prices:
            raise tr.UnknownAssetError(asset)
        column = prices[asset]
        return column[(column.index >= start) & (column.index < end)]


def ran(source, step, as_of, **options):
    """Return the document of a daily run in memory, as JSON gives it back."""
    with tr.open_store("memory://") as store:
        result = tr.run_daily(store, source, tr.sample_vault(), as_of=as_of, step=step, **options)
    return json.loads(json.dumps(result.document))


CASES = {
    "plain": assessed,
    "history": lambda: assessed(history=snapshots()),
    "empty vault": lambda: assessed(vault=tr.Vault(1e6, [])),
    "without prices of a covered coin": lambda: assessed(vault=book(coins=[*COINS, "GHO"], btc_value=1e4)),
    "stale": lambda: assessed(market(end=AS_OF - 40 * DAY)),
    "long stale": lambda: assessed(market(end=AS_OF - 100 * DAY)),
    "few rows": lambda: assessed(market(days=12), vault=book(btc_value=1e4)),
    "a single coin": lambda: assessed(market(coins=["USDC"]), vault=book(coins=["USDC"])),
    "other sources": lambda: assessed(others=two_feeds()),
    "moving together": lambda: assessed(moving_together()),
    "spikes and gaps": lambda: assessed(spiked()),
    "one simulation": lambda: assessed(n=1),
    "explained": explained,
    "gone alerts": lambda: assessed(open_alerts=[gone()]),
    "an asset failed": lambda: ran(OneFails(), "1d", AS_OF, n=500),
    "the sample market": lambda: ran(tr.sources.SampleSource(), "1h", tr.sources.SampleSource().last),
    "real prices": lambda: ran(tr.sources.CsvSource(SHARED), "1d", AS_OF),
}
WITHOUT = set() if SHARED.is_dir() else {"real prices"}


def gone():
    """An alert that last fired three days ago."""
    report = tr.assess(market(), book(), as_of=AS_OF - 3 * DAY, step="1d", generated_at=MADE, n=100)
    [first, *_] = report.open_alerts
    return type(first)(key="stale_data:DAI", severity="high", since=first.since, seen=first.seen)


@functools.cache
def made(name):
    """The document of a case, once for all tests that only look at it."""
    return CASES[name]()


def test_it_is_a_schema_of_this_version():
    """Of the draft that it names, and of the version that reports carry."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    assert SCHEMA_VERSION == SCHEMA["properties"]["schema_version"]["const"]
    assert SCHEMA["$id"].endswith(f":{SCHEMA_VERSION}")


@pytest.mark.parametrize("name", CASES)
def test_it_takes_what_is_written(name):
    """In ordinary and odd cases."""
    if name in WITHOUT:
        pytest.skip("the shared price data are not beside the checkout")

    assert [] == [(error.json_path, error.message) for error in VALIDATOR.iter_errors(made(name))]


def nodes(schema: Any, path: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema within a schema, with its place; those of conditions are not among them."""
    if not isinstance(schema, dict):
        return
    yield path, schema
    for group in ("properties", "$defs"):
        for name, inner in schema.get(group, {}).items():
            yield from nodes(inner, f"{path}/{group}/{name}")
    for name in ("items", "additionalProperties"):
        yield from nodes(schema.get(name), f"{path}/{name}")
    for number, inner in enumerate(schema.get("anyOf", ())):
        yield from nodes(inner, f"{path}/anyOf/{number}")


def test_numbers_have_units_and_objects_are_closed():
    """So that no key is written that it does not describe."""
    for path, node in nodes(SCHEMA):
        kinds = [node["type"]] if isinstance(node.get("type"), str) else node.get("type", [])
        if {"number", "integer"} & set(kinds):
            assert node.get("unit"), path
        if "object" in kinds:
            assert "additionalProperties" in node, path
            assert node["additionalProperties"] is False or "properties" not in node, path


def reached(value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
    """The places of properties of the schema that a document has."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        yield from reached(value, SCHEMA["$defs"][name], f"#/$defs/{name}")
    for number, inner in enumerate(schema.get("anyOf", ())):
        if VALIDATOR.evolve(schema={**inner, "$defs": SCHEMA["$defs"]}).is_valid(value):
            yield from reached(value, inner, f"{path}/anyOf/{number}")
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in schema.get("properties", {}):
                yield f"{path}/properties/{key}"
                yield from reached(inner, schema["properties"][key], f"{path}/properties/{key}")
            elif isinstance(schema.get("additionalProperties"), dict):
                yield from reached(inner, schema["additionalProperties"], f"{path}/additionalProperties")
    if isinstance(value, list):
        for inner in value:
            yield from reached(inner, schema.get("items", {}), f"{path}/items")


def test_every_key_of_it_is_written_somewhere():
    """Those of no document are of no use; the other way round it is closed."""
    known = {path for path, _ in nodes(SCHEMA) if "/properties/" in path and path.split("/")[-2] == "properties"}

    found = {path for name in CASES.keys() - WITHOUT for path in reached(made(name), SCHEMA, "#")}

    assert set() == known - found


BY_SYMBOL = (
    "assets",
    "volatility",
    "scores",
    "failed_to_fetch",
    "expected_shortfall_99_contributions",
    "coverage_usd",
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of everything in a document; of a list or of what goes by symbol only the first."""
    if path:
        yield path
    if isinstance(value, dict):
        for key in list(value)[: 1 if path and path[-1] in BY_SYMBOL else None]:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


def changed(document: Any, path: tuple[Any, ...], change: Any) -> Any:
    """Return a copy in which `change` was done to the container at a place, and the last key.

    Of what contains the place only: all else is the document's own, so that hundreds of copies are quick.
    """
    copied = holder = copy.copy(document)
    for key in path[:-1]:
        holder[key] = copy.copy(holder[key])
        holder = holder[key]
    change(holder, path[-1])
    return copied


def of_case(name):
    """A document without long lists, so that it is quickly checked hundreds of times."""
    document = copy.deepcopy(made(name))
    for window in ("30", "90", "365"):
        if document["correlations"][window]:
            document["correlations"][window]["pairs"] = document["correlations"][window]["pairs"][:1]
    assert VALIDATOR.is_valid(document)
    return document


@pytest.mark.parametrize(
    "name",
    ["history", *(pytest.param(name, marks=pytest.mark.slow) for name in ("long stale", "an asset failed"))],
)
def test_it_refuses_a_document_without_a_key(name):
    """Any key, anywhere: also a reason whose value is null."""
    document = of_case(name)
    keys = [path for path in places(document) if isinstance(path[-1], str)]
    taken = {
        path[-1]
        for path in keys
        if VALIDATOR.is_valid(changed(document, path, lambda holder, key: holder.pop(key)))
        and path[-2:-1] not in [(name,) for name in BY_SYMBOL]
    }

    assert taken <= {
        "settings_sha256", "failed_to_fetch", "n_days", "threshold", "block_length",
        *SCHEMA["$defs"]["pair"]["properties"].keys() - set(SCHEMA["$defs"]["pair"]["required"]),
    }  # fmt: skip
    assert 150 < len(keys)


@pytest.mark.parametrize(
    "name",
    [
        "history",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("long stale", "other sources", "an asset failed")
        ),
    ],
)
def test_it_refuses_another_type_and_another_key(name):
    """In every place: an object where there is none, text for a number, a number for text, a key more."""
    document = of_case(name)

    def other(holder: Any, key: Any) -> None:
        holder[key] = [{"no": "object"}] if not isinstance(holder[key], list) else {"no": "list"}

    def swapped(holder: Any, key: Any) -> None:
        holder[key] = "1.0" if isinstance(holder[key], (int, float)) else 1.0

    def with_more(holder: Any, key: Any) -> None:
        holder[key] = {**holder[key], "a key more": 1.0}

    taken = []
    for path in places(document):
        value = document
        for key in path:
            value = value[key]
        changes = [other]
        if isinstance(value, (str, int, float)):
            changes.append(swapped)
        if isinstance(value, dict) and path[-1] not in BY_SYMBOL:
            changes.append(with_more)
        taken += [
            (path, change.__name__) for change in changes if VALIDATOR.is_valid(changed(document, path, change))
        ]

    assert [] == taken


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema_version",), 1),
        (("as_of",), "2024-12-31"),
        (("as_of",), "2024-12-31T00:00:00+01:00"),
        (("report_date",), "31.12.2024"),
        (("report_date",), "2024-02-30"),
        (("inputs", "prices_sha256"), "abc"),
        (("inputs", "rows"), -1),
        (("inputs", "rows"), 1.5),
        (("var_analysis", "var_95", "low"), None),
        (("var_analysis", "var_95", "confidence"), 95),
        (("var_analysis", "var_trend_30d"), None),
        (("risk_alerts", 0, "severity"), "HIGH"),
        (("depeg_events", 0, "direction"), "down"),
        (("data_quality", "scores", "USDC"), 1.01),
        (("portfolio_summary", "total_capital_usd"), 0.0),
        (("portfolio_summary", "ltv_ratio"), -0.1),
        (("portfolio_summary", "diversification_score"), 1.1),
        (("var_analysis", "probability_of_ruin", "value"), -0.1),
        (("var_analysis", "probability_of_ruin", "high"), 1.1),
        (("var_analysis", "probability_of_ruin", "low"), None),
        (("var_analysis", "var_95", "standard_error"), -1.0),
        (("var_analysis", "scenario_shares", 0, "share"), 1.1),
        (("var_analysis", "scenario_shares", 0, "probability"), -0.1),
        (("correlations", "365", "pairs", 0, "correlation"), 1.1),
        (("correlations", "365", "pairs", 0, "low"), -1.1),
        (("correlations", "30", "common_mode_share", "value"), 1.1),
        (("correlations", "30", "interval", "level"), 95),
        (("co_depegs", 0, "rate_together"), -1.0),
        (("co_depegs", 0, "share_together_high"), 1.1),
        (("tail_dependence", 0, "tail_dependence"), 1.1),
        (("depeg_events", 0, "min_price"), 0.0),
        (("depeg_events", 0, "duration_seconds"), -1.0),
        (("historical_comparison", "correlation_regime_change", "p_value"), 1.1),
        (("historical_comparison", "portfolio_growth_7d"), -1.1),
        (("inputs", "volatility", "USDC"), -0.1),
        (("historical_comparison", "correlation_regime_change"), None),
    ],
)
def test_it_refuses_values_that_cannot_be(path, value):
    """Null without its reason, text that is no time, numbers out of range."""

    def put(holder: Any, key: Any) -> None:
        holder[key] = value

    assert not VALIDATOR.is_valid(changed(made("history"), path, put))


def test_numbers_without_a_range_are_those_that_have_none():
    """Amounts that may be gains, changes, what depends on a rule, and what rounding may take past its bound."""
    ranged = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    free = {
        path.split("/")[-1]
        for path, node in nodes(SCHEMA)
        if {"number", "integer"}
        & {*([node["type"]] if isinstance(node.get("type"), str) else node.get("type", []))}
        and not any(name in node for name in ranged)
    }

    assert free == {
        "value", "low", "high", "worst_case", "best_case", "loss", "items", "before", "after", "published_before",
        "capital_usd", "btc_value_usd", "aggregate_limit_usd", "additionalProperties", "change_usd",
        "capital_change_usd", "btc_value_change_usd", "coverage_change_usd", "var_trend_30d", "var_95_vs_30d_avg",
        "threshold", "bound", "smallest_eigenvalue", "common_mode",
    }  # fmt: skip


@pytest.mark.parametrize(
    "instant", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2300-01-01T00:00:00Z", "soon"]
)
def test_an_instant_that_no_calendar_has_is_a_fault(instant):
    """Not an error of its own, wherever UTC puts it."""
    assert schema_fault(made("history") | {"as_of": instant}).startswith("$.as_of")
