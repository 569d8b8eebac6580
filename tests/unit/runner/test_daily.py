"""The daily job: what stops it, what does not, and when a date is done."""

from __future__ import annotations

import math
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

import tonsurance_risk as tr
from tonsurance_risk.errors import SettingsError, StorageError, StoreBusyError
from tonsurance_risk.storage import MemoryStore, database

DATE = datetime(2024, 1, 29, tzinfo=UTC)
ROWS = "timestamp,price\n" + "".join(f"2024-01-{day:02d}T00:00:00Z,0.99{day:02d}\n" for day in range(1, 29))


@pytest.fixture
def folder(tmp_path):
    """A folder of two coins and BTC."""
    prices = tmp_path / "prices"
    prices.mkdir()
    for name in ("USDC", "DAI"):
        (prices / f"{name}_1d.csv").write_text(ROWS)
    (prices / "BTC_1d.csv").write_text(ROWS.replace(",0.99", ",399"))
    return prices


def run(store, folder, vault=None, **options):
    """Run the job of the date."""
    book = vault or tr.Vault(1e6, [tr.Policy("1", "USDC", 1e5, 0.95, 0.5)], btc_value=1e4)
    return tr.run_daily(store, tr.sources.CsvSource(folder), book, as_of=DATE, step="1d", n=500, **options)


def test_a_date_with_a_failed_asset_is_not_done(folder):
    """It needs attention, and is done again until the asset is there."""
    whole = (folder / "DAI_1d.csv").read_text()
    (folder / "DAI_1d.csv").write_text(whole[:-3])
    with tr.open_store("memory://") as store:
        first, second = run(store, folder), run(store, folder)
        (folder / "DAI_1d.csv").write_text(whole)
        third, fourth = run(store, folder), run(store, folder)

    assert [True, True, False, False] == [r.needs_attention for r in (first, second, third, fourth)]
    assert [False, False, False, True] == [r.already_done for r in (first, second, third, fourth)]
    assert ["DAI"] == list(first.document["data_quality"]["failed_to_fetch"])
    assert "DAI" in third.document["inputs"]["assets"]


def test_a_critical_alert_needs_attention(folder):
    """Once: a date that is done is quiet."""
    vault = tr.Vault(1e5, [tr.Policy("1", "USDC", 9e4, 0.95, 0.5)])
    with tr.open_store("memory://") as store:
        first, second = run(store, folder, vault), run(store, folder, vault)

    assert first.needs_attention
    assert {} == first.failed
    assert not second.needs_attention


def test_another_book_is_another_run(folder):
    """Of the same date; so is another seed or an analyst's edit of a scenario."""
    with tr.open_store("memory://") as store:
        run(store, folder)
        other = run(store, folder, tr.Vault(2e6, []))
        seed = run(store, folder, seed=1)
        store.save_scenarios([tr.Scenario("Normal Market Conditions", 0.4)])
        edited = run(store, folder)
        names = [scenario.name for scenario in store.load_scenarios()]

    assert not any(result.already_done for result in (other, seed, edited))
    assert 5 == len(names)
    assert 0.4 == edited.document["var_analysis"]["scenario_shares"][-1]["probability"]


def test_a_store_that_fails_stops_the_run(folder, tmp_path, monkeypatch):
    """It is not booked as the failure of an asset."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT", timedelta(seconds=0.2))
    path = tmp_path / "risk.db"
    with tr.open_store(f"sqlite:///{path}") as store:
        other = sqlite3.connect(path)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError):
            run(store, folder)
        other.rollback()
        other.close()
        assert [] == store.load_reports()


def test_a_date_whose_file_could_not_be_written_is_done_by_the_next_run(folder, tmp_path):
    """What was computed is kept; the ledger tells both."""
    out, as_of = tmp_path / "reports", "2024-01-29"
    (out / f"risk_report_{as_of}.json").mkdir(parents=True)
    with tr.open_store("memory://") as store:
        with pytest.raises(StorageError, match=as_of):
            run(store, folder, out=out)
        failed = [(one.status, one.message) for one in store.load_jobs() if one.job.startswith("risk_report")]
        (out / f"risk_report_{as_of}.json").rmdir()
        again = run(store, folder, out=out)
        done = [(one.status, one.attempts) for one in store.load_jobs()]

    assert "failed" == failed[0][0]
    assert as_of in failed[0][1]
    assert again.already_done
    assert again.report_path.exists()
    assert [("done", 1)] * 3 == done


def test_a_folder_without_known_coins(tmp_path):
    """Is a wrong setting."""
    with tr.open_store("memory://") as store, pytest.raises(SettingsError, match="carries none of"):
        run(store, tmp_path)


def test_coins_of_ones_own_are_fetched(folder):
    """And measured against their own pegs, in the report and among the stored events."""
    (folder / "EURX_1d.csv").write_text(ROWS.replace(",0.99", ",1.08"))
    vault = tr.Vault(
        1e6, [tr.Policy("1", "EURX", 1e5, 0.95, 0.5)], assets=[tr.Asset("EURX", peg=tr.FixedPeg(1.08))]
    )
    with tr.open_store("memory://") as store:
        result = run(store, folder, vault)
        events = store.load_events(["EURX"])

    assert 28 == result.fetched["EURX"]
    assert [] == events
    assert [] == result.document["data_quality"]["without_prices"]


@pytest.mark.fault("F036")
def test_what_the_store_has_of_another_source_confirms_events(folder, tmp_path):
    """In the report, among the stored events, and in the alert; a copy of the same files says nothing."""
    dip = ROWS.replace("0.9926", "0.9300").replace("0.9927", "0.9310").replace("0.9928", "0.9320")
    for name in ("USDC", "DAI"):
        (folder / f"{name}_1d.csv").write_text(dip)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    other = tmp_path / "other"
    other.mkdir()
    (other / "USDC_1d.csv").write_text(dip.replace("0.99", "1.00").replace("0.93", "0.94"))
    (other / "DAI_1d.csv").write_text(ROWS.replace("0.99", "1.00"))
    vault = tr.Vault(1e6, [tr.Policy(c, c, 1e4, 0.5, 0.2) for c in ("USDC", "DAI")])

    def events_of(result):
        open_below = [e for e in result.document["depeg_events"] if e["is_open"] and e["direction"] == "below"]
        return {e["asset"]: (e["confirmed"], e["local_to"]) for e in open_below}

    with tr.open_store("memory://") as store:
        alone = run(store, folder, vault)
        run(store, copy, vault)
        with_copy = run(store, folder, vault, seed=1)
        run(store, other, vault)
        confirmed = run(store, folder, vault, seed=2)
        stored = {
            e.asset: e.confirmed for e in store.load_events(source=tr.sources.CsvSource(folder).name) if e.is_open
        }

    name = tr.sources.CsvSource(folder).name
    assert {"USDC": (None, None), "DAI": (None, None)} == events_of(alone) == events_of(with_copy)
    assert {"USDC": (True, None), "DAI": (False, name)} == events_of(confirmed)
    assert {"USDC": True, "DAI": False} == stored
    assert [False, True] == [
        s["is_copy"] for s in sorted(confirmed.document["inputs"]["other_sources"], key=lambda s: s["is_copy"])
    ]
    messages = {a["message"] for a in confirmed.document["risk_alerts"] if a["rule"] == "open_depeg"}
    assert any("USDC" in m and "(confirmed by another source)" in m for m in messages)
    assert any("DAI" in m and "(no other source shows it)" in m for m in messages)
    assert all("(unconfirmed)" in a["message"] for a in alone.document["risk_alerts"] if a["rule"] == "open_depeg")


class TestExplanation:
    """What changed since the report before, from the inputs that the store kept."""

    def days(self, store, folder, vaults, **options):
        """Return the documents of days in a row."""
        source = tr.sources.CsvSource(folder)
        return [
            tr.run_daily(
                store, source, vault, as_of=DATE.replace(day=25 + k), step="1d", n=500, **options
            ).document
            for k, vault in enumerate(vaults)
        ]

    def book(self, coverage):
        """Return a vault."""
        return tr.Vault(1e6, [tr.Policy("1", "USDC", coverage, 0.95, 0.5)], btc_value=1e4)

    def test_from_day_to_day(self, folder):
        """The measures of both reports, to the bit, and parts that sum to the change; the first has none."""
        with tr.open_store("memory://") as store:
            first, second = self.days(store, folder, [self.book(1e5), self.book(2e5)])

        assert first["var_explanation"] is None
        assert "no earlier report" in first["var_explanation_reason"]
        explained = second["var_explanation"]
        assert first["as_of"] == explained["since"]
        assert "var_explanation_reason" not in second
        for name, change in explained["measures"].items():
            before, after = (document["var_analysis"][name]["value"] for document in (first, second))
            assert (before, before, after) == (change["published_before"], change["before"], change["after"])
            assert after - before == math.fsum(part["value"] for part in change["parts"].values())
        assert explained["measures"]["var_99"]["parts"]["vault"]["value"] > 0.0
        assert 1e5 == explained["drivers"]["vault"]["coverage_change_usd"]
        assert {"vault", "prices_and_volatility", "correlations", "scenarios", "sampling_noise"} == set(
            explained["drivers"]
        )

    def test_a_report_whose_inputs_are_gone(self, folder):
        """Explains nothing, and says so."""

        class Forgetful(MemoryStore):
            def load_run_inputs(self, content_hash):
                raise LookupError(content_hash)

        with Forgetful() as store:
            _, second = self.days(store, folder, [self.book(1e5), self.book(2e5)])

        assert second["var_explanation"] is None
        assert "with its inputs" in second["var_explanation_reason"]

    def test_only_reports_before_the_date_count(self, folder):
        """A date that is done again is explained from the day before it, not from itself or later ones."""
        with tr.open_store("memory://") as store:
            first, _ = self.days(store, folder, [self.book(1e5), self.book(2e5)])
            again = tr.run_daily(
                store, tr.sources.CsvSource(folder), self.book(3e5), as_of=DATE.replace(day=26), step="1d", n=500
            ).document

        assert first["as_of"] == again["var_explanation"]["since"]
        assert 2e5 == again["var_explanation"]["drivers"]["vault"]["coverage_change_usd"]
