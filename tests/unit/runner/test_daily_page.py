"""The page of the daily report: written with it, and never at its cost."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

import tonsurance_risk as tr
from tonsurance_risk.cli import run

DATE = datetime(2024, 1, 29, tzinfo=UTC)
NAME = "risk_report_2024-01-29"
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


def daily(store, folder, **options):
    """Run the job of the date."""
    vault = tr.Vault(1e6, [tr.Policy("1", "USDC", 1e5, 0.95, 0.5)], btc_value=1e4)
    source = tr.sources.CsvSource(folder)
    return tr.run_daily(store, source, vault, as_of=DATE, step="1d", n=500, **options)


def test_it_is_written_with_the_report_and_not_again(folder, tmp_path):
    """A date that is done has the page that was made then, or none."""
    out = tmp_path / "reports"
    with tr.open_store("memory://") as store:
        first = daily(store, folder, out=out, html=True)
        names = sorted(path.name for path in out.iterdir())
        again = daily(store, folder, out=out, html=True)
        first.html_path.unlink()
        lost = daily(store, folder, out=out, html=True)

    assert [f"{NAME}.html", f"{NAME}.json"] == names
    assert out / f"{NAME}.html" == first.html_path == again.html_path
    assert not first.needs_attention
    assert (True, None, None) == (lost.already_done, lost.html_path, lost.html_error)
    assert not first.html_path.exists()


def test_none_is_written_unasked(folder, tmp_path):
    """Or without a folder."""
    with tr.open_store("memory://") as store:
        plain = daily(store, folder, out=tmp_path / "reports")
    with tr.open_store("memory://") as store:
        nowhere = daily(store, folder, html=True)

    assert [tmp_path / "reports" / f"{NAME}.json"] == list((tmp_path / "reports").iterdir())
    assert (None, None, None) == (plain.html_path, nowhere.html_path, nowhere.html_error)


def test_a_page_that_fails_costs_nothing_else(folder, tmp_path, caplog):
    """Report, ledger and alerts are done; it needs attention, and says why."""
    out = tmp_path / "reports"
    (out / f"{NAME}.html").mkdir(parents=True)
    with tr.open_store("memory://") as store:
        result = daily(store, folder, out=out, html=True)
        jobs = [one.status for one in store.load_jobs()]
        stored = store.load_reports()

    assert result.report_path.exists()
    assert [result.document] == stored
    assert ["done"] * 3 == jobs
    assert result.needs_attention
    assert None is result.html_path
    assert result.html_error.startswith("StorageError: the page ")
    assert "has no page" in caplog.text


def test_on_the_command_line(folder, tmp_path, monkeypatch, capsys):
    """By the option, by the settings, and not when the option says no."""
    monkeypatch.chdir(tmp_path)
    given = ["daily", f"--source=csv:{folder}", "--interval=1d", "--as-of=2024-01-29", "--n=500"]
    (tmp_path / "tonsurance_risk.toml").write_text("html = true\n")

    assert 0 == run([*given, "--db=sqlite:///one.db", "--out=one"])
    assert "page: one/risk_report_2024-01-29.html" in capsys.readouterr().out
    assert 0 == run([*given, "--db=sqlite:///two.db", "--out=two", "--no-html"])
    (tmp_path / "tonsurance_risk.toml").unlink()
    assert 0 == run([*given, "--db=sqlite:///three.db", "--out=three", "--html"])
    (tmp_path / "four" / f"{NAME}.html").mkdir(parents=True)
    assert 1 == run([*given, "--db=sqlite:///four.db", "--out=four", "--html"])
    assert "the page could not be made: StorageError" in capsys.readouterr().out

    assert (tmp_path / "one" / f"{NAME}.html").is_file()
    assert not (tmp_path / "two" / f"{NAME}.html").exists()
    assert (tmp_path / "three" / f"{NAME}.html").is_file()
