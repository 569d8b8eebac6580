"""The commands `report`, on a database and files that `daily` left."""

from __future__ import annotations

import copy
import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tonsurance_risk as tr
from tonsurance_risk.cli import run

COINS = ["USDC", "USDT", "DAI"]
BEFORE, LAST = "2024-12-30", "2024-12-31"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with prices, two reports as files and in the database; the coverage grows in between."""
    folder = tmp_path_factory.mktemp("reports")
    rng = np.random.default_rng(0)
    days = pd.date_range(end=f"{LAST}T00:00Z", periods=420, freq="D")
    (folder / "prices").mkdir()
    for number, coin in enumerate(COINS):
        # A bar is stamped with its open.
        lines = [
            f"{day - pd.Timedelta(days=1):%Y-%m-%dT%H:%M:%SZ},{price!r}"
            for day, price in zip(days, np.exp(rng.normal(0, 1e-3, 420)).tolist(), strict=True)
        ]
        if number == 2:
            lines[-1] = lines[-1].split(",")[0] + ",0.95"
        (folder / "prices" / f"{coin}_1d.csv").write_text("timestamp,price\n" + "\n".join(lines) + "\n")
    here = Path.cwd()
    os.chdir(folder)
    try:
        for date, share in ((BEFORE, 1e5), (LAST, 2.4e5)):
            vault = tr.Vault(1e6, [tr.Policy(c, c, share, 0.97, 0.5) for c in COINS])
            Path("vault.json").write_text(json.dumps(vault.to_dict()))
            options = ["--source=csv:prices", "--interval=1d", f"--as-of={date}", "--vault=vault.json", "--n=500"]
            assert run(["daily", *options, "--json"]) in (0, 1)
    finally:
        os.chdir(here)
    return folder


@pytest.fixture(autouse=True)
def folder(made, monkeypatch):
    """Work in the folder, without settings of the environment."""
    for name in os.environ:
        if name.startswith("TONSURANCE_RISK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(made)
    return made


def printed(capsys, *arguments, expect=0):
    """Run a command of `report` and return what it printed."""
    capsys.readouterr()
    code = run(["report", *arguments])
    out = capsys.readouterr()
    assert expect == code, out.err
    return out.out if expect in (0, 1) else out.err


def file_of(folder, date):
    """The path of the report of a date."""
    return str(folder / "reports" / f"risk_report_{date}.json")


def test_show(folder, capsys):
    """The newest, one of a date, and a file; JSON is the document."""
    document = json.loads(Path(file_of(folder, LAST)).read_text())

    assert f"Risk report {LAST}" in printed(capsys, "show")
    assert f"Risk report {BEFORE}" in printed(capsys, "show", BEFORE)
    assert f"Risk report {LAST}" in printed(capsys, "show", file_of(folder, LAST), "--db", "sqlite:///gone.db")
    assert document == json.loads(printed(capsys, "show", LAST, "--json"))
    assert document == json.loads(printed(capsys, "show", file_of(folder, LAST), "--json"))


def test_list(folder, capsys):
    """A row a report, oldest first, with its figures."""
    rows = json.loads(printed(capsys, "list", "--json"))["reports"]

    assert [BEFORE, LAST] == [row["date"] for row in rows]
    document = json.loads(Path(file_of(folder, LAST)).read_text())
    assert {
        "date": LAST,
        "as_of": document["as_of"],
        "source": document["inputs"]["source"],
        "step": "1d",
        "var_95": document["var_analysis"]["var_95"]["value"],
        "cvar_99": document["var_analysis"]["cvar_99"]["value"],
        "worst_alert": document["risk_alerts"][0]["severity"],
        "generated_at": document["generated_at"],
    } == rows[1]
    assert BEFORE in printed(capsys, "list")
    assert "no reports" in printed(capsys, "list", "--source", "another")


HOSTILE = "\x1b[2J\x1b]0;title\x07\u202e\x9b1m"
"""Clears the screen, names the window, turns the line around, and once more in one byte."""


def assert_written_out(text):
    """Assert that hostile text is there, and nothing of it does anything."""
    assert HOSTILE.encode("unicode_escape").decode() in text
    assert not {letter for letter in text if not letter.isprintable()} - {"\n"}


def test_what_a_terminal_acts_on_is_written_out(folder, tmp_path, capsys):
    """Of a source, messages, names and values, by every command that prints them."""
    shutil.copytree(folder / "prices", tmp_path / HOSTILE)
    place = ["--db", f"sqlite:///{tmp_path / 'risk.db'}", f"--source=csv:{tmp_path / HOSTILE}", "--interval=1d"]
    assert run(["daily", *place, f"--as-of={LAST}", "--n=500", "--vault=vault.json", "--out=hostile"]) in (0, 1)
    assert_written_out(capsys.readouterr().out)
    assert run(["status", *place]) in (0, 1)
    assert_written_out(capsys.readouterr().out)
    assert_written_out(printed(capsys, "list", *place[:2]))
    assert_written_out(printed(capsys, "show", *place[:2]))

    document = json.loads(Path(file_of(folder, LAST)).read_text())
    file = tmp_path / "hostile.json"
    for change in (
        lambda made: made["risk_alerts"][0].update(message=HOSTILE),
        lambda made: made["risk_alerts"][0].update(key=HOSTILE),
        lambda made: made["recommendations"][0].update(message=HOSTILE),
        lambda made: made["stress_test_results"][0].update(scenario=HOSTILE),
        lambda made: made["depeg_events"][0].update(asset=HOSTILE),
        lambda made: made["var_analysis"]["var_95"].update(note=HOSTILE),
        lambda made: made.update(software_version=HOSTILE),
        lambda made: made["inputs"].update(source=HOSTILE),
    ):
        made = copy.deepcopy(document)
        change(made)
        file.write_text(json.dumps(made))
        texts = [
            printed(capsys, "show", str(file)),
            printed(capsys, "diff", BEFORE, str(file)),
            printed(capsys, "diff", str(file), BEFORE),
        ]
        assert_written_out("".join(texts))


def test_an_error_cannot_do_anything_to_the_terminal(folder, tmp_path, capsys):
    """What is wrong with a file is written out."""
    file = tmp_path / "hostile.json"
    document = json.loads(Path(file_of(folder, LAST)).read_text())
    document["data_quality"]["scores"][HOSTILE] = 2
    file.write_text(json.dumps(document))

    assert_written_out(printed(capsys, "show", str(file), expect=3))


def test_diff(folder, capsys):
    """Coverage, an alert on it and an open depeg are new; nothing is against itself."""
    changes = json.loads(printed(capsys, "diff", BEFORE, LAST, "--json"))

    numbers = {number["name"]: number for number in changes["numbers"]}
    coverage = numbers["portfolio_summary.total_coverage_sold_usd"]
    assert (3e5, 7.2e5) == (coverage["old"], coverage["new"])
    assert coverage["relative_change"] == pytest.approx(1.4)
    assert {"ltv", "open_depeg:DAI"} <= {alert["key"] for alert in changes["alerts"]["new"]}
    assert [("DAI", "below")] == [(event["asset"], event["direction"]) for event in changes["events"]["new"]]
    assert [] == changes["events"]["gone"]
    assert {"inputs.vault_sha256", "inputs.prices_sha256", "inputs.last"} <= {
        one["path"] for one in changes["inputs"]
    }
    assert "portfolio_summary.active_policies_count" not in numbers
    text = printed(capsys, "diff", BEFORE, file_of(folder, LAST))
    assert "+140.00%" in text
    assert "new depeg: DAI below since" in text
    assert "nothing changed" in printed(capsys, "diff", LAST, file_of(folder, LAST))
    back = json.loads(printed(capsys, "diff", LAST, BEFORE, "--json"))
    assert changes["alerts"]["new"] == back["alerts"]["gone"]
    assert changes["events"]["new"] == back["events"]["gone"]


def test_diff_shows_what_an_alert_says_now(folder, tmp_path, capsys):
    """Where its severity or its message changed."""
    document = json.loads(Path(file_of(folder, LAST)).read_text())
    alert = document["risk_alerts"][0]
    alert |= {"message": "another [message]"}
    file = tmp_path / "changed.json"
    file.write_text(json.dumps(document))

    changes = json.loads(printed(capsys, "diff", LAST, str(file), "--json"))
    text = printed(capsys, "diff", str(file), LAST)

    [changed] = changes["alerts"]["changed"]
    assert ("another [message]", alert["severity"]) == (changed["message"], changed["severity_before"])
    said = f"{alert['severity']} (another [message]) before, now {alert['severity']} ({changed['message_before']})"
    assert f"alert {alert['key']}: {said}\n" in text
    assert "nothing changed" not in text


def test_diff_of_huge_numbers(folder, tmp_path, capsys, monkeypatch):
    """All columns are there in 80; a change beyond the largest float is none."""
    monkeypatch.setenv("COLUMNS", "80")
    document = json.loads(Path(file_of(folder, LAST)).read_text())
    files = []
    for value in (-1e308, 1e308, 10**308):
        document["var_analysis"]["worst_case"] = value
        files.append(tmp_path / f"{len(files)}.json")
        files[-1].write_text(json.dumps(document))

    [row] = [line for line in printed(capsys, "diff", LAST, str(files[1])).splitlines() if "worst_case" in line]
    for file in files[1:]:
        [number] = json.loads(printed(capsys, "diff", str(files[0]), str(file), "--json"))["numbers"]
        assert (-1e308, 1e308) == (number["old"], float(number["new"]))
        assert number["change"] is number["relative_change"] is None

    assert "1e+308" in row
    assert "times" in row


def test_export(folder, capsys, tmp_path):
    """Every table; numbers to the last bit, an event and a pair a row, and headers where there is nothing."""
    assert "34 files" in printed(capsys, "export", str(tmp_path / "tables"), LAST)

    document = json.loads(Path(file_of(folder, LAST)).read_text())
    tables = {}
    for path in (tmp_path / "tables").iterdir():
        with path.open(newline="") as file:
            tables[path.name.removeprefix(f"risk_report_{LAST}.").removesuffix(".csv")] = list(
                csv.DictReader(file)
            )
    assert {one["asset"]: one["start"] for one in document["depeg_events"]} == {
        row["asset"]: row["start"] for row in tables["events"]
    }
    assert [
        (one["probability"], one["value"], one["low"]) for one in document["chart_data"]["exceedance_curve"]
    ] == [
        (float(row["probability"]), float(row["value"]), float(row["low"]) if row["low"] else None)
        for row in tables["exceedance_curve"]
    ]
    assert 9 == len(tables["correlation_pairs"])
    assert document["portfolio_summary"] == {row["measure"]: float(row["value"]) for row in tables["portfolio"]}
    assert 50 == len(tables["loss_histogram"])
    assert len(document["risk_alerts"]) == len(tables["alerts"])
    [header] = (tmp_path / "tables" / f"risk_report_{LAST}.other_sources.csv").read_text().splitlines()
    assert "source,rows,prices_sha256,is_copy" == header


def test_every_list_of_the_document_is_a_table(folder, tmp_path, capsys):
    """So that one that is added is exported too: each record of the schema that lists hold has its columns somewhere."""
    printed(capsys, "export", str(tmp_path), LAST)
    headers = [path.read_text().splitlines()[0].split(",") for path in tmp_path.iterdir()]
    schema = tr.report_schema()
    listed = {
        node["items"]["$ref"].removeprefix("#/$defs/")
        for text in [json.dumps(schema)]
        for node in _lists(json.loads(text))
        if "$ref" in node["items"]
    } - {"date"}

    for record in listed:
        # Remedies are written an amount a row; what a record holds lists of has a table of its own.
        columns = {
            name
            for name, node in schema["$defs"][record]["properties"].items()
            if node.get("type") != "object" and node.get("items", {}).get("$ref", "#/$defs/date") == "#/$defs/date"
        } - {"capital_usd", "btc_value_usd", "aggregate_limit_usd"}
        assert any(columns <= set(header) for header in headers), record
    assert any({"rule", "remedy", "quantity", "asset", "change_usd"} == set(header) for header in headers)


def _lists(schema):
    if isinstance(schema, dict):
        if isinstance(schema.get("items"), dict):
            yield schema
        for inner in schema.values():
            yield from _lists(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _lists(inner)


def test_replay(folder, capsys, tmp_path):
    """Equal, also the older one; a changed file is named, with exit code 1; a store without it fails."""
    assert "equal\n" == printed(capsys, "replay", file_of(folder, BEFORE))
    assert "equal\n" == printed(capsys, "replay", LAST)
    document = json.loads(Path(file_of(folder, LAST)).read_text())
    true = document["var_analysis"]["var_99"]["value"]
    document["var_analysis"]["var_99"]["value"] = 12345.5
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(document))

    text = printed(capsys, "replay", str(changed), expect=1)
    found = json.loads(printed(capsys, "replay", str(changed), "--json", expect=1))

    assert f"var_analysis.var_99.value: said 12345.5, now {true!r}" in text
    assert "cause: the report was changed after it was stored, in 1 place(s)" in text
    assert [{"path": "var_analysis.var_99.value", "old": 12345.5, "new": true}] == found["differences"]
    assert found["equal"] is False
    assert 0 == run(["db", "upgrade", "--db", f"sqlite:///{tmp_path / 'empty.db'}"])
    error = printed(capsys, "replay", str(changed), "--db", f"sqlite:///{tmp_path / 'empty.db'}", expect=2)
    assert "the report was not made with this store" in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "2020-01-01"], f"no report of 2020-01-01 is stored; the newest is of {LAST}"),
        (["show", "2024-02-31"], "'2024-02-31' is no date"),
        (["show", "gone.json"], "gone.json cannot be read: No such file"),
        (["show", "../../etc/passwd\0"], "no report"),
        (["show", "vault.json"], "vault.json is no report: needed is an object with schema_version"),
        (["show", "prices/DAI_1d.csv"], "prices/DAI_1d.csv is no report"),
        (["show", "--db", "sqlite:///gone.db"], "there is no database 'gone.db'"),
        (["show", "--db", "memory://"], "memory:// is gone when the command ends"),
        (["show", "--source", "another"], "no report from another is stored; there are reports from 'csv:prices@"),
        (["show", LAST, "--interval", "1h"], f"no report of {LAST} 1h is stored; there are reports from 'csv:"),
        (["show", ""], "DATE|FILE must be a date such as 2024-12-31 or a path, found ''"),
        (["replay", ""], "DATE|FILE must be a date such as 2024-12-31 or a path, found ''"),
        (["diff", LAST], "Missing argument"),
        (["diff", LAST, "gone.json"], "gone.json cannot be read"),
        (["replay", "2020-01-01"], "no report of 2020-01-01 is stored"),
        (["export", "vault.json/x", LAST], "cannot be written to"),
    ],
)
def test_what_is_not_there_is_wrong_usage(capsys, arguments, said):
    """A clear error and exit code 3."""
    assert said in printed(capsys, *arguments, expect=3)
    assert not Path("gone.db").exists()


def put(*path):
    """Return what sets the last of a path of keys in a document."""
    *keys, last, value = path

    def change(document):
        for key in keys:
            document = document[key]
        document[last] = value

    return change


def deep(levels):
    """Lists within lists."""
    made = []
    for _ in range(levels):
        made = [made]
    return made


@pytest.mark.fault("F141")
@pytest.mark.fault("F142")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("schema_version", 1), "has schema version 1, this software reads 2"),
        (put("schema_version", 3), "has schema version 3, this software reads 2"),
        (put("schema_version", deep(300)), "has schema version [[[[[[[...]]]]]]], this software reads 2"),
        (lambda document: document.pop("inputs"), "is no whole report: $: 'inputs' is a required property"),
        (
            lambda document: document["var_analysis"].pop("var_95"),
            "$.var_analysis: 'var_95' is a required property",
        ),
        (put("var_analysis", "var_95", None), "$.var_analysis.var_95: None is not of type 'object'"),
        (put("var_analysis", "probability_of_ruin", "low", None), "$.var_analysis.probability_of_ruin.low: None"),
        (put("risk_alerts", 0, "severity", "worst"), "$.risk_alerts[0].severity: 'worst' is not one of"),
        (
            put("portfolio_summary", "total_capital_usd", 0),
            "$.portfolio_summary.total_capital_usd: 0 is less than",
        ),
        (put("report_date", "2024-02-31"), "$.report_date: '2024-02-31' is not a 'date'"),
        (put("as_of", "2024-02-31T00:00:00Z"), "$.as_of: '2024-02-31T00:00:00Z' is not a 'date-time'"),
        (
            put("generated_at", "9999-12-31T23:59:59Z"),
            "$.generated_at: '9999-12-31T23:59:59Z' is not a 'date-time'",
        ),
        (put("recommendations", deep(300)), "$.recommendations[0]: [[["),
        (put("seed", float("nan")), "is no report: NaN is no finite number"),
        (put("seed", float("-inf")), "is no report: -Infinity is no finite number"),
        (put("seed", 10**400), "is no report: 1000000000000000000000000000000000000000 is no finite number"),
    ],
)
def test_a_damaged_file_is_refused(folder, tmp_path, capsys, change, said):
    """With one error that names the file and the place, by each command, before anything is printed."""
    document = json.loads(Path(file_of(folder, LAST)).read_text())
    change(document)
    damaged = tmp_path / "damaged.json"
    damaged.write_text(json.dumps(document))

    for arguments in (
        ["show", str(damaged)],
        ["diff", LAST, str(damaged)],
        ["diff", str(damaged), LAST],
        ["replay", str(damaged)],
        ["export", str(tmp_path / "tables"), str(damaged)],
    ):
        assert run(["report", *arguments]) == 3
        out, error = capsys.readouterr()
        assert "" == out
        assert error.startswith(f"SettingsError: {damaged} ")
        assert said in error
        assert len(error) < 600
    assert not (tmp_path / "tables").exists()


@pytest.mark.fault("F142")
def test_a_file_that_was_cut_is_refused(folder, tmp_path, capsys):
    """After any number of bytes."""
    whole = Path(file_of(folder, LAST)).read_bytes()
    damaged = tmp_path / "damaged.json"
    for size in (0, 1, len(whole) // 3, len(whole) - 3):
        damaged.write_bytes(whole[:size])

        assert "damaged.json is no report: " in printed(capsys, "show", str(damaged), expect=3)


def test_a_number_that_overflows_is_refused(folder, tmp_path, capsys):
    """JSON may write it, and Python would read infinity."""
    damaged = tmp_path / "damaged.json"
    damaged.write_text(Path(file_of(folder, LAST)).read_text().replace('"seed": 0', '"seed": 1e999', 1))

    assert "is no report: 1e999 is no finite number" in printed(capsys, "show", str(damaged), expect=3)


def test_reports_of_several_sources_need_to_be_told_apart(folder, tmp_path, capsys):
    """The places are listed; one that is named is found."""
    database = tmp_path / "two.db"
    with tr.open_store("sqlite:///tonsurance_risk.db") as store:
        [document] = store.load_reports(last=1)
    other = copy.deepcopy(document)
    other["inputs"]["source"] = "another"
    with tr.open_store(f"sqlite:///{database}") as store:
        store.save_reports([document], source=document["inputs"]["source"], step="1d")
        store.save_reports([other], source="another", step="1d")

    error = printed(capsys, "show", LAST, "--db", f"sqlite:///{database}", expect=3)

    assert "'another' 1d" in error
    assert "another" in printed(capsys, "show", LAST, "--db", f"sqlite:///{database}", "--source", "another")


@pytest.mark.skipif(os.name != "posix", reason="the browser of this test is a shell script")
def test_open_shows_the_page_in_the_browser(folder, tmp_path):
    """A file beside the report, or the folder of reports; what differs from the report is said to."""
    browser, shown = tmp_path / "browser", tmp_path / "shown"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {shown}\n')
    browser.chmod(0o755)
    copied = tmp_path / "copied.json"
    document = json.loads(Path(file_of(folder, LAST)).read_text())
    copied.write_text(json.dumps(document))

    def opened(*arguments):
        code = "from tonsurance_risk.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", code, "report", "open", *arguments],
            capture_output=True, text=True, check=False, env=os.environ | {"BROWSER": f"{browser} %s"},
        )  # fmt: skip

    one, other = opened(str(copied)), opened(BEFORE, "--out", str(tmp_path / "pages"))
    document["var_analysis"]["var_95"]["value"] = 1.0
    copied.write_text(json.dumps(document))
    changed = opened(str(copied))

    assert ("", 0, "", 0) == (one.stderr, one.returncode, other.stderr, other.returncode)
    pages = [tmp_path / f"risk_report_{LAST}.html", tmp_path / "pages" / f"risk_report_{BEFORE}.html"]
    assert [f"{page}\n" for page in pages] == [one.stdout, other.stdout]
    assert [page.as_uri() for page in [*pages, pages[0]]] == shown.read_text().split()
    assert f"{LAST}" in pages[0].read_text()
    assert (1, True) == (changed.returncode, "does not come out again" in changed.stderr)


def test_reading_changes_nothing(capsys):
    """Not a row of the database."""

    def rows():
        with closing(sqlite3.connect("tonsurance_risk.db")) as connection:
            return list(connection.iterdump())

    before = rows()
    printed(capsys, "show")
    printed(capsys, "replay", LAST)

    assert before == rows()
