"""What can go wrong, in groups, and which tests show what then happens: read from the marks `fault("Fnnn")`."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import attrs

TESTS = Path(__file__).parent

FAULTS = {
    "Sources that are asked over the network": {
        "F001": "a host name that cannot be resolved",
        "F002": "a connection refused, or cut in the middle of an answer",
        "F003": "a server that takes the connection and says nothing",
        "F004": "a server that sends a byte a second",
        "F005": "a 429 that says how long to wait",
        "F006": "a 429 that does not",
        "F007": "a waiting time that is huge, negative, a date, or no time at all",
        "F008": "a key that is missing or not accepted",
        "F009": "history that the plan does not have",
        "F010": "a key of another plan's host",
        "F011": "a firewall's page instead of an answer",
        "F012": "a region that is not served",
        "F013": "an asset that the source does not know",
        "F014": "errors of the server",
        "F015": "a maintenance page with status 200",
        "F016": "an empty answer",
        "F017": "an error inside an answer with status 200",
        "F018": "JSON that is called text",
        "F019": "a byte-order mark, and bytes that are no UTF-8",
        "F020": "a few compressed bytes that unpack to gigabytes",
        "F021": "an answer without end",
        "F022": "a redirect to another host",
        "F023": "a field that is missing or has another name",
        "F024": "numbers written as text, and text as numbers",
        "F025": "not-a-number, infinities, endless digits and nesting in JSON",
        "F026": "one bad pair among several that are asked at once",
        "F027": "an answer under another name of the same pair",
        "F028": "an answer about another coin",
        "F029": "no calls left this month",
        "F030": "the same answer twice",
        "F031": "proxies in the environment",
    },
    "Prices": {
        "F032": "no price in a row",
        "F033": "a price of zero or below",
        "F034": "a price that is not finite on its way into the store",
        "F035": "a decimal point in the wrong place",
        "F036": "a real depeg, which must not be taken for an error",
        "F037": "seconds taken for milliseconds, and the reverse",
        "F038": "stamps in the future",
        "F039": "stamps before what was asked for",
        "F040": "a stamp twice with one price",
        "F041": "a stamp twice with two prices",
        "F042": "columns of different length",
        "F043": "a last point that is the present and no bar",
        "F044": "the present on the date of a daily price",
        "F045": "days where hours were asked for",
        "F046": "missing bars",
        "F047": "a price that stands still",
        "F048": "yesterday's price changed afterwards",
        "F049": "a coin that is traded no more",
        "F050": "a coin that its source calls differently now",
        "F051": "two coins with one symbol",
        "F052": "a missing price given as 1",
        "F053": "a bar that is not over",
        "F054": "summer time",
        "F055": "leap days and leap seconds",
        "F056": "a coin younger than the window",
        "F057": "a price that is exactly 1 all the time",
    },
    "Streams of prices": {
        "F058": "the disconnection after a day",
        "F059": "maintenance that is announced",
        "F060": "a gap while connecting again",
        "F061": "messages twice, or in another order",
        "F062": "a symbol that is refused",
        "F063": "messages of an unknown kind",
        "F064": "more messages than can be handled",
        "F065": "connections refused again and again",
        "F066": "an end in the middle of a message",
    },
    "Storage": {
        "F067": "kill -9 before commit",
        "F068": "kill -9 between commit and ledger or alert",
        "F069": "kill -9 in the middle of COPY",
        "F070": "disk full while writing the database",
        "F071": "disk full while writing a report",
        "F072": "database locked for too long",
        "F073": "corrupt file, or no database",
        "F074": "empty file",
        "F075": "only the main file of a write-ahead log copied",
        "F076": "server restarted in a transaction",
        "F077": "deadlock, serialization failure",
        "F078": "no connection left in the pool",
        "F079": "doubled key in one batch",
        "F080": "server takes no writes",
        "F081": "schema older or newer than the code",
        "F082": "migration interrupted",
        "F083": "no TimescaleDB",
        "F084": "TimescaleDB that compresses nothing",
        "F085": "unique index without the time on a hypertable",
        "F086": "hypertable of another chunk interval",
        "F087": "lock leaked by a connection of the pool",
        "F088": "naive time",
        "F089": "time zone other than UTC",
        "F090": "very many rows in one call",
        "F091": "text in a price column",
        "F092": "rows deleted by hand",
    },
    "Scheduler and process": {
        "F093": "two runners at once",
        "F094": "run missed for ten days",
        "F095": "run longer than the interval",
        "F096": "started before the day is final",
        "F097": "clock set back",
        "F098": "clock a year ahead",
        "F099": "SIGTERM in the middle of a run",
        "F100": "SIGKILL",
        "F101": "one asset that always fails",
        "F102": "more simulations than memory",
        "F103": "worker that hangs",
        "F104": "nobody starts the job",
        "F105": "output closed",
        "F106": "fork with open connections",
    },
    "Alerts and webhooks": {
        "F107": "the same depeg again and again",
        "F108": "value that swings about its threshold",
        "F109": "receiver that refuses",
        "F110": "receiver that is away",
        "F111": "receiver that hangs",
        "F112": "message too long, control characters",
        "F113": "key in the text of an error",
        "F114": "resolve without an open alert, restart in between",
    },
    "Numbers": {
        "F115": "no rows, one, or two",
        "F116": "infinities in returns, not-a-number in losses",
        "F117": "stamps out of order or doubled",
        "F118": "stamps without a zone, or of several",
        "F119": "whole numbers, decimals, text and objects as prices",
        "F120": "a level of 95 for 0.95",
        "F121": "a policy that cannot be: coverage of zero, a floor above its trigger",
        "F122": "weights that are negative, missing, too few or all zero",
        "F123": "a matrix that no correlation can have",
        "F124": "coins that move exactly together",
        "F125": "a tail fitted to too few losses",
        "F126": "a warning of the numerical libraries",
        "F127": "one worker or eight",
        "F128": "more simulations than fit",
        "F129": "the smallest and largest numbers there are",
        "F130": "an array changed by its owner after the call",
        "F131": "no event in the sample, or nothing else",
        "F132": "windows that overlap in a test of independence",
        "F133": "a policy or scenario of a coin that nobody declared",
    },
    "Settings, files, security": {
        "F134": "a key that is missing, empty or has a line break",
        "F135": "settings that would run code or use memory without end",
        "F136": "settings of another type that look right",
        "F137": "a report's name that leaves its folder",
        "F138": "SQL in the name of an asset",
        "F139": "HTML or a formula in the name of an asset",
        "F140": "an archive that writes elsewhere or unpacks without end",
        "F141": "a document of a newer version",
        "F142": "a document that was cut or altered",
        "F143": "environment and file that disagree",
        "F144": "line breaks and terminal codes in what a source says",
        "F145": "a dependency with a known weakness",
        "F146": "Python that leaves out assertions",
        "F147": "another language, another encoding",
        "F148": "an extra that is not installed",
    },
}
"""Words of our own for each row, by group."""
NOT_HERE = dict.fromkeys(FAULTS["Streams of prices"], "no source of the library is a stream") | {
    "F125": "no law is fitted to a tail",
    "F140": "no archive of others is unpacked",
}
"""Rows that nothing in the library can meet."""
LEFT_OUT_BY_DEFAULT = {"timescale", "slow"}
"""Marks of tests that need more than a fresh machine, or longer than a few minutes."""


@attrs.frozen
class FaultTest:
    """A test that a row of the table names."""

    name: str
    by_default: bool


@functools.cache
def fault_tests() -> dict[str, list[FaultTest]]:
    """Return the tests of each row, those of the shipped contract included, in the order of the files."""
    tests: dict[str, list[FaultTest]] = {}
    contract = ast.parse((TESTS / "integration" / "test_store_contract.py").read_text())
    (faults,) = (
        node.value for node in contract.body if isinstance(node, ast.Assign) and "FAULTS" in ast.unparse(node)
    )
    for name, rows in ast.literal_eval(faults).items():
        for row in rows:
            tests.setdefault(row, []).append(FaultTest(f"StoreContract::{name}", by_default=True))
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                rows, by_default = _marks(node)
                test = FaultTest(f"{path.relative_to(TESTS).as_posix()}::{node.name}", by_default)
                for row in rows:
                    tests.setdefault(row, []).append(test)
    return tests


def _marks(function: ast.FunctionDef) -> tuple[list[str], bool]:
    """Return the rows that a test names, also for single parameters, and whether it runs by default."""
    rows = [
        ast.literal_eval(call.args[0])
        for decorator in function.decorator_list
        for call in ast.walk(decorator)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.fault"
    ]
    names = {ast.unparse(decorator).removeprefix("pytest.mark.") for decorator in function.decorator_list}
    return rows, not LEFT_OUT_BY_DEFAULT & names
