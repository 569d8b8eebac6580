"""The commands `config`, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tonsurance_risk.cli import run

CANARY = "canary-0123456789abcdefghijklmnop"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch) -> Path:
    """An empty working directory, and an environment without settings."""
    import os

    for name in os.environ:
        if name.startswith(("TONSURANCE_RISK_", "COINGECKO_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_check_without_a_file(capsys) -> None:
    assert 0 == run(["config", "check"])
    assert "no file, the defaults: right; alerts go to log\n" == capsys.readouterr().out


def test_check_of_a_file(folder: Path, monkeypatch, capsys) -> None:
    """The default one, one of the environment, one that is given."""
    monkeypatch.setenv("TONSURANCE_RISK_WEBHOOK_SECRET", CANARY)
    text = "[[alerts.sinks]]\nkind = 'file'\npath = 'a.jsonl'\n[[alerts.sinks]]\nkind = 'webhook'\nurl = 'https://a.example/'"
    (folder / "tonsurance_risk.toml").write_text(text)
    (folder / "other.toml").write_text("seed = 1")

    assert 0 == run(["config", "check"])
    assert "tonsurance_risk.toml: right; alerts go to file, webhook\n" == capsys.readouterr().out
    assert 0 == run(["config", "check", "--config", "other.toml"])
    assert "other.toml: right; alerts go to log\n" == capsys.readouterr().out
    monkeypatch.setenv("TONSURANCE_RISK_CONFIG", "other.toml")
    assert 0 == run(["config", "check"])
    assert capsys.readouterr().out.startswith("other.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sed = 1", "SettingsError: tonsurance_risk.toml: 'sed' is no setting (did you mean 'seed'?)"),
        ("[[alerts.sinks]]\nkind = 'webhook'\nurl = 'http://a.example/'", "must be https://HOST/PATH"),
        ("[[alerts.sinks]]\nkind = 'webhook'\nurl = 'https://a.example/'", "set TONSURANCE_RISK_WEBHOOK_SECRET"),
        ("[[alerts.sinks]]\nkind = 'pagerduty'", "set TONSURANCE_RISK_PAGERDUTY_ROUTING_KEY"),
        ("vault = 'gone.json'", "gone.json"),
        ("seed = ", "tonsurance_risk.toml is not TOML"),
    ],
)
def test_check_finds(folder: Path, capsys, text: str, said: str) -> None:
    """Each with exit code 3."""
    (folder / "tonsurance_risk.toml").write_text(text)

    assert 3 == run(["config", "check"])
    assert said in capsys.readouterr().err


@pytest.mark.fault("F143")
def test_show_has_no_secret(folder: Path, monkeypatch, capsys) -> None:
    (folder / "tonsurance_risk.toml").write_text("out = 'daily'\nvault = 'a.json'")
    monkeypatch.setenv("TONSURANCE_RISK_VAULT", "b.json")
    monkeypatch.setenv("TONSURANCE_RISK_PAGERDUTY_ROUTING_KEY", CANARY)
    monkeypatch.setenv("TONSURANCE_RISK_STORE_URL", f"postgresql+psycopg://risk:{CANARY}@db.example/risk")

    assert 0 == run(["config", "show"])
    printed = capsys.readouterr().out
    document = json.loads(printed)
    assert "tonsurance_risk.toml" == document["file"]
    assert ("daily", "b.json") == (document["settings"]["out"], document["settings"]["vault"])
    assert "postgresql+psycopg://risk:***@db.example/risk" == document["settings"]["store"]["url"]
    assert ["store.url", "vault"] == document["from_environment"]
    assert "set" == document["secrets"]["TONSURANCE_RISK_PAGERDUTY_ROUTING_KEY"]
    assert "not set" == document["secrets"]["TONSURANCE_RISK_WEBHOOK_SECRET"]
    assert CANARY not in printed


def test_no_error_shows_a_secret(monkeypatch, capsys) -> None:
    """Wherever in a command it was written by mistake."""
    monkeypatch.setenv("TONSURANCE_RISK_WEBHOOK_SECRET", CANARY)

    assert 3 == run(["db", "info", "--db", f"sqlite:///{CANARY}.db"])
    assert "SettingsError: --db: there is no database '***.db'\n" == capsys.readouterr().err
