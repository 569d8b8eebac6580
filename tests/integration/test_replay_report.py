"""Reports made again from a real store: equal to the last bit, or what differs and why."""

from __future__ import annotations

import copy
import json
import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tonsurance_risk as tr
from databases import execute
from tonsurance_risk.errors import InsufficientDataError, SettingsError
from tonsurance_risk.runner.replay_report import replay_report, report_made_again

DAY = timedelta(days=1)
FIRST = pd.Timestamp("2024-12-28", tz="UTC")
COINS = ["USDC", "USDT", "DAI"]
SHARED = Path(__file__).parents[3] / "shared" / "data" / "prices"
VAULT = tr.Vault(
    1e6,
    [tr.Policy("own", "MINE", 2e5, 0.97, 0.5), *(tr.Policy(c, c, 2e5, 0.97, 0.5) for c in COINS)],
    btc_value=1e4,
    assets=[tr.Asset("MINE", "A coin of the vault", peg=tr.FixedPeg(2.0))],
    aggregate_limit=5e5,
)


class Feed:
    """Daily prices that can be revised."""

    name = "feed"

    def __init__(self, name="feed"):
        self.name = name
        rng = np.random.default_rng(0)
        index = pd.date_range(end=FIRST + 10 * DAY, periods=420, freq="D")
        self.prices = pd.DataFrame(
            np.exp(rng.normal(0, 1e-3, (420, 4))), index=index, columns=[*COINS, "MINE"]
        ).mul([1.0, 1.0, 1.0, 2.0])
        self.prices["BTC"] = 4e4 * np.exp(np.cumsum(rng.normal(0, 0.03, 420)))

    def fetch(self, asset, start, end, *, step="1h"):
        """Fetch what there is of one."""
        if asset not in self.prices:
            raise tr.UnknownAssetError(asset)
        column = self.prices[asset]
        return column[(column.index >= start) & (column.index < end)]


def run(store, feed, date, **options):
    """Return the document of a run, as its file has it."""
    result = tr.run_daily(store, feed, VAULT, as_of=date, step="1d", **{"n": 500, **options})
    return json.loads(json.dumps(result.document))


def fill(store):
    """Run three days while prices of both feeds are revised after each, and return the documents."""
    feed, other = Feed(), Feed("other")
    other.prices *= 1.0 + 1e-5
    documents = []
    for number in range(3):
        date = FIRST + number * DAY
        store.save_prices(other.prices.loc[:date], source="other", step="1d")
        documents.append(run(store, feed, date, seed=number))
        # What a source says of the last days is fetched again, and kept beside what it said before.
        feed.prices.iloc[400:, 0] *= 1.001
        other.prices.iloc[400:, 1] *= 0.999
        store.save_prices(feed.prices.iloc[100:400] * (1.0001 + 1e-6 * number), source="feed", step="1d")
    return documents


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An SQLite file that `fill` filled, and the documents."""
    file = tmp_path_factory.mktemp("made") / "risk.db"
    with tr.open_store(f"sqlite:///{file}") as store:
        documents = fill(store)
    return file, documents


@pytest.fixture
def filled(made, tmp_path):
    """A store on a copy of the file, and the documents."""
    file, documents = made
    shutil.copy(file, tmp_path / "risk.db")
    with tr.open_store(f"sqlite:///{tmp_path / 'risk.db'}") as store:
        yield store, documents


def test_every_report_comes_out_again_to_the_last_bit(filled):
    """After later dates and revisions of prices of both sources; the report of it is there to be drawn."""
    store, documents = filled
    assert 3 == len({document["inputs"]["prices_sha256"] for document in documents})
    assert any(document["open_alerts"] for document in documents[1:])

    for document in documents:
        found = replay_report(store, document)

        assert [] == [one.to_dict() for one in found.differences]
        assert found.equal
        assert ((), ()) == (found.causes, found.unchecked)
        assert json.dumps(document) == json.dumps(found.document)
        assert isinstance(found.report, tr.RiskReport)
        assert report_made_again(store, document).to_json() == found.report.to_json()


def test_the_prices_of_today_would_not_give_it(filled):
    """So that what is tested above is the reading as of then."""
    store, documents = filled
    now = json.loads(json.dumps(documents[0] | {"generated_at": "2999-01-01T00:00:00Z"}))

    found = replay_report(store, now)

    assert not found.equal
    assert "inputs.prices_sha256" in {one.path for one in found.differences}
    assert {"USDC", "DAI", "BTC"} <= {
        cause.split(" of ")[1].split()[0] for cause in found.causes if cause.startswith("prices: those")
    }
    assert any(cause.startswith("other sources: ") for cause in found.causes)


@pytest.mark.fault("F142")
@pytest.mark.parametrize(
    ("path", "value", "cause"),
    [
        (("var_analysis", "var_95", "value"), 1.5, "changed after it was stored, in 1 place(s)"),
        (("stress_test_results", 1, "loss"), 0.0, "changed after it was stored, in 1 place(s)"),
        (("seed",), 99, "changed after it was stored, in 1 place(s)"),
        (("chart_data", "exceedance_curve", 3, "high"), None, "changed after it was stored"),
        (("data_quality", "failed_to_fetch"), {"USDC": "no"}, "changed after it was stored"),
        (("inputs", "prices_sha256"), "0" * 64, "the hash is not that of the prices"),
        (("inputs", "assets", "DAI", "observations"), 5, "changed after it was stored"),
        (("inputs", "vault_sha256"), "0" * 64, "vault: the report names another one"),
        (("inputs", "settings_sha256"), "0" * 64, "settings: vault, scenarios, seed"),
        (("inputs", "simulations_asked"), 501, "changed after it was stored"),
        (("inputs", "run_inputs_sha256"), "0" * 64, "inputs: the store does not have those"),
        (("software_version",), "0.0.1", "software version: the report was made by 0.0.1, this is"),
        (("alert_changes",), [], "changed after it was stored"),
    ],
)
def test_a_changed_file_is_named_exactly(filled, path, value, cause):
    """The one place, what it says and what comes out, and the cause."""
    store, documents = filled
    changed = copy.deepcopy(documents[0])
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    true = holder[path[-1]]
    holder[path[-1]] = value

    found = replay_report(store, changed)

    name = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)[1:]
    expected = {name} if not isinstance(true, list) else {f"{name}[{k}]" for k in range(len(true))}
    if isinstance(value, dict):
        expected = {f"{name}.{key}" for key in value}
    elif expected == {name}:
        [one] = found.differences
        assert (value, true) == (one.old, one.new)
    assert expected == {one.path for one in found.differences}
    assert any(cause in said for said in found.causes), found.causes


def test_missing_and_added_keys_are_differences(filled):
    """Said of each: only in the one or the other."""
    store, documents = filled
    changed = copy.deepcopy(documents[1])
    del changed["portfolio_summary"]["ltv_ratio"]
    changed["more"] = 1

    found = replay_report(store, changed)

    assert [
        {"path": "portfolio_summary.ltv_ratio", "new": documents[1]["portfolio_summary"]["ltv_ratio"]},
        {"path": "more", "old": 1},
    ] == [one.to_dict() for one in found.differences]


def test_a_store_that_lacks_what_is_needed_says_so(filled, tmp_path):
    """Its inputs, or its prices as of then."""
    store, documents = filled
    with tr.open_store(f"sqlite:///{tmp_path / 'other.db'}") as empty:
        with pytest.raises(
            InsufficientDataError, match=r"neither the inputs .* the report was not made with this store"
        ):
            replay_report(empty, documents[0])
        inputs = store.load_run_inputs(documents[0]["inputs"]["run_inputs_sha256"])
        empty.save_run_inputs(inputs)
        with pytest.raises(
            InsufficientDataError, match=r"held no 1d prices of feed of the two years up to 2024-12-28"
        ):
            replay_report(empty, documents[0])
    with pytest.raises(SettingsError, match="schema version 1 cannot be made again"):
        replay_report(store, documents[0] | {"schema_version": 1})


def test_a_store_that_lost_the_inputs_says_so(filled, tmp_path):
    """Although it still has the report, whether the document names its inputs or others."""
    store, documents = filled
    execute(f"sqlite:///{tmp_path / 'risk.db'}", "DELETE FROM run_inputs")

    for named in (documents[2]["inputs"]["run_inputs_sha256"], "0" * 64):
        document = copy.deepcopy(documents[2])
        document["inputs"]["run_inputs_sha256"] = named
        with pytest.raises(InsufficientDataError, match=rf"neither the inputs {named} .* it lost the inputs"):
            replay_report(store, document)


def test_prices_that_were_deleted_make_no_other_report(filled, tmp_path):
    """The store has the very report: all of it is checked, and only the prices are the cause."""
    store, documents = filled
    execute(
        f"sqlite:///{tmp_path / 'risk.db'}",
        "DELETE FROM price_history WHERE asset = 'USDT' AND source = 'feed' AND time < '2024-06-01'",
    )

    found = replay_report(store, documents[2])

    assert not found.equal
    assert () == found.unchecked
    assert {"prices"} == {cause.split(":")[0] for cause in found.causes}


def test_a_report_that_was_replaced_still_comes_out(filled):
    """With what its run alone wrote down unchecked, and said to be."""
    store, documents = filled
    replaced = documents[2]
    run(store, Feed(), FIRST + 2 * DAY, seed=77)

    found = replay_report(store, replaced)

    assert found.equal
    assert ("inputs.simulations_asked", "data_quality.failed_to_fetch", "alert_changes") == found.unchecked


def test_postgresql_gives_the_same(postgres_url):
    """The reading as of then is that of the database."""
    with tr.open_store(postgres_url) as store:
        documents = fill(store)

        assert [[]] * 3 == [list(replay_report(store, document).differences) for document in documents]


def test_prices_that_were_changed_behind_the_store_are_named(filled, tmp_path):
    """The asset, and no other one."""
    store, documents = filled
    execute(
        f"sqlite:///{tmp_path / 'risk.db'}",
        "UPDATE price_history SET price = price * 1.01 WHERE asset = 'USDT' AND source = 'feed'",
    )

    found = replay_report(store, documents[2])

    assert not found.equal
    [said] = [cause for cause in found.causes if cause.startswith("prices: ")]
    assert said.startswith("prices: those of USDT are others than the report had")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared price data are not beside the checkout")
def test_real_prices(tmp_path):
    """The daily panel of ten coins, after the day after it."""
    source = tr.sources.CsvSource(SHARED)
    with tr.open_store(f"sqlite:///{tmp_path / 'risk.db'}") as store:
        dates = [pd.Timestamp("2024-12-30", tz="UTC"), pd.Timestamp("2024-12-31", tz="UTC")]
        results = [tr.run_daily(store, source, tr.sample_vault(), as_of=date, step="1d") for date in dates]

        assert [True, True] == [replay_report(store, result.document).equal for result in results]
