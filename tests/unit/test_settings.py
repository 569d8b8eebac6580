"""Settings: what is refused and how it is said, what wins, and that no secret comes out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import attrs
import pytest

from tonsurance_risk.errors import SettingsError
from tonsurance_risk.settings import (
    SECRET_VARIABLES,
    VARIABLES,
    FileSinkSettings,
    LogSinkSettings,
    Settings,
    SinkSettings,
    WebhookSinkSettings,
)
from tonsurance_risk.settings_reading import known_secrets, load_settings, settings_document

CANARY = "canary-0123456789"
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


def load(tmp_path: Path, text: str, **environment: str) -> Settings:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    return load_settings(file, environment=environment)


def complaint(tmp_path: Path, text: str, **environment: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, **environment)
    return str(caught.value).replace(str(tmp_path / "settings.toml"), "FILE")


EVERYTHING = """
interval = "1d"
vault = "book.json"
out = "daily"
seed = 7
n = 50_000

[store]
url = "postgresql+psycopg://risk@db.example/risk"

[source]
spec = "csv:prices"

[schedule]
call_budget = 500
max_success_age_hours = 48

[alerts]
allowed_hosts = ["hooks.internal.example"]

[[alerts.sinks]]
kind = "file"
path = "alerts.jsonl"

[[alerts.sinks]]
kind = "webhook"
name = "desk"
url = "https://hooks.internal.example/risk"

[logging]
level = "DEBUG"
json = true

[metrics]
text_file = "metrics/risk.prom"
"""


def test_a_file_with_everything(tmp_path) -> None:
    settings = load(tmp_path, EVERYTHING)

    assert ("1d", Path("book.json"), Path("daily"), 7, 50_000) == (
        settings.interval, settings.vault, settings.out, settings.seed, settings.n,
    )  # fmt: skip
    assert 500 == settings.schedule.call_budget
    assert 48.0 == settings.schedule.max_success_age_hours
    assert isinstance(settings.schedule.max_success_age_hours, float)
    assert settings.alerts.sinks == (
        FileSinkSettings(kind="file", path=Path("alerts.jsonl")),
        WebhookSinkSettings(kind="webhook", name="desk", url="https://hooks.internal.example/risk"),
    )
    assert settings.logging.json is True


def test_no_file_is_all_defaults(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    settings = load_settings(environment={})
    assert Settings() == settings
    assert (LogSinkSettings(kind="log"),) == settings.alerts.sinks  # an alert is never lost for want of settings


def test_where_the_file_is_looked_for(tmp_path, monkeypatch) -> None:
    """The one given, else of the environment, else in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name, seed in {"tonsurance_risk.toml": 1, "named.toml": 2, "given.toml": 3}.items():
        (tmp_path / name).write_text(f"seed = {seed}")
    named = {"TONSURANCE_RISK_CONFIG": "named.toml"}

    assert 1 == load_settings(environment={}).seed
    assert 2 == load_settings(environment=named).seed
    assert 3 == load_settings(Path("given.toml"), environment=named).seed


@pytest.mark.parametrize("environment", [{}, {"TONSURANCE_RISK_CONFIG": "gone.toml"}])
def test_a_named_file_must_be_there(environment: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"there is no settings file 'gone\.toml'"):
        load_settings(None if environment else Path("gone.toml"), environment=environment)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("intervall = '1h'", "FILE: 'intervall' is no setting (did you mean 'interval'?); accepted: interval, vault"),
        ("[store]\nurk = 'x'", "FILE: store: 'urk' is no setting (did you mean 'url'?); accepted: url"),
        ("[[alerts.sinks]]\nkind='log'\n[[alerts.sinks]]\nkind='file'\npaht='x'", "FILE: alerts.sinks[1]: 'paht' is no setting (did you mean 'path'?)"),
        ("zzz = 1", "FILE: 'zzz' is no setting; accepted: interval"),
        ("[[alerts.sinks]]\nkind='email'", "FILE: alerts.sinks[0]: kind must be one of log, file, webhook, pagerduty, found the text 'email'"),
        ("[[alerts.sinks]]\nname='x'", "FILE: alerts.sinks[0]: kind must be one of log, file, webhook, pagerduty"),
        ("[[alerts.sinks]]\nkind='webhook'", "FILE: alerts.sinks[0].url: url is missing"),
        ("[[alerts.sinks]]\nkind='log'\n[[alerts.sinks]]\nkind='log'", "FILE: alerts: two sinks are called 'log'"),
        ("interval = '1w'", "FILE: interval: '1w' is no choice (did you mean '1h'?); accepted: 1h, 1d"),
        ("seed = -1", "FILE: 'seed' must be >= 0: -1"),
        ("n = 0", "FILE: 'n' must be >= 1: 0"),
        ("[schedule]\ncall_budget = -1", "FILE: schedule: 'call_budget' must be >= 0: -1"),
        ("[metrics]\ntext_file = 'x.txt'", "FILE: metrics: text_file must end with .prom"),
        ("vault = ''", "FILE: vault: must be a path, found the text ''"),
    ],
)  # fmt: skip
def test_what_is_refused_and_where(tmp_path, text: str, said: str) -> None:
    assert said in complaint(tmp_path, text)


@pytest.mark.fault("F136")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("n = '1e3'", "n: must be a whole number such as 1000, found the text '1e3'"),
        ("n = 1e3", "n: must be a whole number such as 1000, found the number 1000.0"),
        ("n = true", "n: must be a whole number such as 1000, found True"),
        ("seed = '7'", "seed: must be a whole number such as 1000, found the text '7'"),
        ("[logging]\njson = 'yes'", "logging.json: must be true or false, found the text 'yes'"),
        ("[logging]\njson = 1", "logging.json: must be true or false, found the whole number 1"),
        ("[schedule]\nmax_success_age_hours = '36'", "must be a number such as 36.5, found the text '36'"),
        ("[schedule]\nmax_success_age_hours = inf", "must be a number such as 36.5, found the number inf"),
        ("[schedule]\nmax_success_age_hours = nan", "must be a number such as 36.5, found the number nan"),
        ("out = 5", "out: must be a path, found the whole number 5"),
        ("interval = 1", "interval: must be one of 1h, 1d, found the whole number 1"),
        ("store = 'x'", "store: must be a table, found the text 'x'"),
        ("[alerts]\nallowed_hosts = 'abc'", "alerts.allowed_hosts: must be a list, found the text 'abc'"),
        ("[alerts]\nallowed_hosts = [1]", "alerts.allowed_hosts[0]: must be text, found the whole number 1"),
        ("[alerts]\nsinks = 'log'", "alerts.sinks: must be a list, found the text 'log'"),
        ("seed = 0755", "is not TOML"),
        ("[logging]\njson = yes", "is not TOML"),
    ],
)  # fmt: skip
def test_types_are_not_guessed(tmp_path, text: str, said: str) -> None:
    assert said in complaint(tmp_path, text)


def test_everything_wrong_is_said_at_once(tmp_path) -> None:
    lines = complaint(tmp_path, "seed = 'x'\nn = 'y'\nzzz = 1").splitlines()

    assert 3 == len(lines)
    assert all(line.startswith("FILE: ") for line in lines)


@pytest.mark.fault("F135")
@pytest.mark.parametrize(
    "content",
    [
        b"a: !!python/object/apply:os.system ['touch hacked']",
        b"a: &a ['x']\nb: &b [*a, *a]\nc: [*b, *b]",
        b"a = " + b"[" * 990,
        b"a = " + b"[\n" * 40_000,
        b"a" + b".a" * 400 + b" = 1",
        b"a" + b".a" * 100_000 + b" = 1",
        b"\xff\xfe",
        b"x = 1\n" * 400_000,
        b'seed = "\x1b[2J',
        b"seed = 1\nseed = 2",
    ],
)
def test_hostile_files(tmp_path, monkeypatch, content: bytes) -> None:
    """Refused with the tree of errors, nothing run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_bytes(content)

    with pytest.raises(SettingsError, match=r"bad\.toml") as caught:
        load_settings(Path("bad.toml"), environment={})
    assert str(caught.value).isprintable()
    assert [tmp_path / "bad.toml"] == list(tmp_path.iterdir())


@pytest.mark.fault("F143")
def test_file_then_environment_then_command_line(tmp_path) -> None:
    """For every variable there is; the last one wins, an empty one says nothing."""
    text = "vault = 'of file'\nout = 'of file'\ninterval = '1h'\n[store]\nurl = 'sqlite:///of file'\n[source]\nspec = 'of file'"
    file = tmp_path / "settings.toml"
    file.write_text(text)
    environment = dict.fromkeys(VARIABLES, "of environment") | {
        "TONSURANCE_RISK_INTERVAL": "1d",
        "TONSURANCE_RISK_LOG_LEVEL": "ERROR",
        "TONSURANCE_RISK_STORE_URL": "",
    }
    overrides = {"out": Path("of command line"), "vault": None, "seed": 5}

    settings = load_settings(file, environment=environment, overrides=overrides)

    assert "sqlite:///of file" == settings.store.url
    assert ("of environment", Path("of environment")) == (settings.source.spec, settings.vault)
    assert ("1d", "ERROR", Path("of command line"), 5) == (
        settings.interval, settings.logging.level, settings.out, settings.seed,
    )  # fmt: skip


def test_errors_name_the_variable(tmp_path) -> None:
    assert complaint(tmp_path, "", TONSURANCE_RISK_INTERVAL="2h").startswith(
        "TONSURANCE_RISK_INTERVAL: interval: '2h' is"
    )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"[[alerts.sinks]]\nkind = 'pagerduty'\nrouting_key = '{CANARY}'", "alerts.sinks[0].routing_key"),
        (f"[[alerts.sinks]]\nkind = 'webhook'\nurl = 'https://a.example/'\nsecret = '{CANARY}'", "alerts.sinks[0].secret"),
        (f"[source]\napi_key = '{CANARY}'", "source.api_key"),
        (f"[store]\nurl = 'postgresql://risk:{CANARY}@db.example/risk'", "store.url"),
        (f"[store]\nurl = 'postgresql://db.example/risk?password={CANARY}'", "store.url"),
        (f"store = 'postgresql://risk:{CANARY}@db.example/risk'", "store"),
        (f"password = '{CANARY}'", "password"),
        (f"[source]\nspec = 'csv:{CANARY}-of-the-environment'", "source.spec"),
    ],
)  # fmt: skip
def test_a_secret_in_the_file_is_refused_and_not_shown(tmp_path, text: str, place: str) -> None:
    said = complaint(tmp_path, text, TONSURANCE_RISK_WEBHOOK_SECRET=f"{CANARY}-of-the-environment")

    assert f"FILE: {place} holds a secret, which a file must not" in said
    assert "TONSURANCE_RISK_PAGERDUTY_ROUTING_KEY" in said
    assert CANARY not in said


@pytest.mark.fault("F143")
def test_effective_values_without_secrets(tmp_path) -> None:
    environment = {
        "TONSURANCE_RISK_STORE_URL": f"postgresql+psycopg://risk:{CANARY}@db.example/risk",
        "TONSURANCE_RISK_WEBHOOK_SECRET": CANARY,
        "TONSURANCE_RISK_PAGERDUTY_ROUTING_KEY": "",
    }
    document = settings_document(load(tmp_path, "[metrics]\ntext_file='a.prom'", **environment), environment)

    assert "postgresql+psycopg://risk:***@db.example/risk" == document["settings"]["store"]["url"]
    assert "a.prom" == document["settings"]["metrics"]["text_file"]
    assert ["store.url"] == document["from_environment"]
    assert {name: "set" if "WEBHOOK" in name else "not set" for name in SECRET_VARIABLES} == document["secrets"]
    assert CANARY not in str(document)


def test_the_password_of_the_store_is_known_in_both_spellings() -> None:
    environment = {"TONSURANCE_RISK_STORE_URL": "postgresql://risk:p%40ss@word@db.example/risk"}

    assert ("p%40ss@word", "p@ss@word") == known_secrets(environment)
    assert () == known_secrets({"TONSURANCE_RISK_STORE_URL": "sqlite:///a.db"})


def expected_rows(owner: type = Settings, place: str = "") -> list[str]:
    """Return the first three cells of a row a setting, from the classes."""
    rows = []
    for field in attrs.fields(owner):
        default = field.default.factory() if isinstance(field.default, attrs.Factory) else field.default
        if attrs.has(type(default)):
            rows += expected_rows(type(default), f"{place}{field.name}.")
        else:
            kind = owner.__annotations__[field.name].replace("|", "\\|")
            rows.append(f"| `{place}{field.name}` | `{kind}` | {shown(default)} |")
    return rows


def shown(default: object) -> str:
    if default is attrs.NOTHING:
        return "required"
    if default is None or default in ({}, ()):
        return "none"
    if isinstance(default, tuple):
        return f"`{default[0].kind}`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_the_reference_has_every_setting() -> None:
    """Key, type and default of each as in the classes, in their order, and every variable."""
    text = REFERENCE.read_text(encoding="utf-8")
    sinks = [
        row for one in get_args(SinkSettings) for row in expected_rows(one, f"{one.__name__[:-12].lower()}: ")
    ]

    assert [*expected_rows(), *sinks] == re.findall(r"^\| `[^`]+` \| `[^`]+` \| [^|]+ \|(?= )", text, re.MULTILINE)
    for name, key in VARIABLES.items():
        assert f"| `{name}` | `{key}` |\n" in text
    assert all(f"`{name}`" in text for name in (*SECRET_VARIABLES, "TONSURANCE_RISK_CONFIG"))


def test_the_example_of_the_reference_is_right(tmp_path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", REFERENCE.read_text(encoding="utf-8"), re.DOTALL)

    assert ["log", "pager", "desk"] == [sink.name for sink in load(tmp_path, example).alerts.sinks]
