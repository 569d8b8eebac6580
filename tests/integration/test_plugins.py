"""Sources of other distributions: real ones, with metadata, on the path of Python."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from datetime import UTC, datetime

import pytest

from tonsurance_risk.errors import SettingsError
from tonsurance_risk.sources import open_source, source_names
from tonsurance_risk.sources.registry import BUILT_IN

MAIN = "from tonsurance_risk.cli import main; main()"
CODE = """
    import pandas as pd
    from tonsurance_risk.sources.steps import between, step_span

    class Flat:
        def __init__(self, place):
            self.name = f"flat {place or 1.0}"
            self._price = float(place or 1.0)

        def fetch(self, asset, start, end, *, step="1h"):
            hours = pd.date_range("2024-01-01", "2024-01-08", freq=step_span(step, self.name), tz="UTC")
            return between(pd.Series(self._price, hours, name=asset), start, end)

    def broken(place):
        raise RuntimeError("no licence")

    def refusing(place):
        from tonsurance_risk.errors import SettingsError
        raise SettingsError(f"needs a number, found {place!r}")

    def nothing(place):
        return object()

    class Nameless(Flat):
        def __init__(self, place):
            super().__init__(place)
            self.name = ""
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that puts a distribution with entry points on the path."""

    def put(distribution, points, code=CODE):
        module = distribution.replace("-", "_")
        site = tmp_path / distribution
        metadata = site / f"{module}-1.2.0.dist-info"
        metadata.mkdir(parents=True)
        (site / f"{module}.py").write_text(textwrap.dedent(code))
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2.0\n")
        listed = "".join(f"{name} = {module}:{target}\n" for name, target in points.items())
        (metadata / "entry_points.txt").write_text(f"[tonsurance_risk.sources]\n{listed}")
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(sys.modules, module, raising=False)
        return site

    return put


def test_a_source_of_another_distribution(install):
    """By its name, with the text after the colon."""
    install("flat-prices", {"flat": "Flat"})
    source = open_source("flat:0.97")

    prices = source.fetch("DAI", datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 3, tzinfo=UTC))

    assert "flat 0.97" == source.name
    assert [0.97] * 24 == prices.tolist()
    assert "flat 1.0" == open_source("flat").name
    assert "flat" in source_names()


def test_it_is_on_the_command_line(install, tmp_path):
    """In a process of its own, where the library knows nothing of it but its metadata."""
    site = install("flat-prices", {"flat": "Flat"})
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MAIN, "detect", "flat:0.97", "--assets", "DAI", "--json"],
        cwd=tmp_path, env={"PYTHONPATH": str(site), "PATH": "", "HOME": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert 0 == done.returncode, done.stderr
    assert '"flat 0.97"' in done.stdout
    assert '"severity": 0.03' in done.stdout


def test_it_is_a_source_of_usdt_too(install):
    install("flat-prices", {"flat": "Flat"})

    with open_source("binance:flat:1.0") as source:
        assert "binance@flat 1.0" == source.name


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            "broken",
            r"the source 'ours' of bad-plugin 1.2.0 \(bad_plugin:broken\) cannot be made: RuntimeError: no licence",
        ),
        ("nothing", r"bad-plugin 1.2.0 \(bad_plugin:nothing\) gave <object object .*>, which is no PriceSource"),
        ("Nameless", "bad-plugin 1.2.0 .* no PriceSource"),
        ("missing", "bad-plugin 1.2.0 .* AttributeError"),
        ("refusing", "needs a number, found '7'"),
    ],
)
def test_one_that_is_broken_names_its_distribution(install, target, said):
    install("bad-plugin", {"ours": target})
    with pytest.raises(SettingsError, match=said):
        open_source("ours:7")


def test_one_that_cannot_be_imported(install):
    install("bad-plugin", {"ours": "Source"}, code="import nothing_of_this_name\n")
    with pytest.raises(SettingsError, match="bad-plugin 1.2.0 .* ModuleNotFoundError: .*nothing_of_this_name"):
        open_source("ours")

    assert "sample (simulated)" == open_source("sample").name


def test_two_of_one_name(install):
    """Neither is taken; both are named."""
    install("one-plugin", {"ours": "Flat"})
    install("two-plugin", {"ours": "Flat"})
    with pytest.raises(
        SettingsError, match=r"given by one-plugin 1\.2\.0 and two-plugin 1\.2\.0; remove all but one"
    ):
        open_source("ours")


def test_the_name_of_a_source_of_the_library(install):
    """Prices of another source would be stored as Kraken's."""
    install("bad-plugin", {"kraken": "Flat"})
    with pytest.raises(
        SettingsError, match=r"the source 'kraken' of the library is also given by bad-plugin 1\.2\.0"
    ):
        open_source("kraken")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("krakn", "did you mean kraken?"),
        ("coinbse", "did you mean coinbase"),
        ("Kraken", "did you mean kraken?"),
        ("bloomberg", r"unknown source 'bloomberg' \(known: sample, csv, coingecko, binance"),
        ("", "unknown source ''"),
        ("sample:x", "takes nothing after it"),
        ("kraken:x", "takes nothing after it"),
        ("csv:", "needs a folder"),
        ("csv:no/such/folder", "does not exist"),
        ("binance:krakn", "did you mean kraken?"),
        ("coingecko:gold", "tier must be one of"),
    ],
)
def test_what_cannot_be_opened(spec, said):
    with pytest.raises(SettingsError, match=said):
        open_source(spec)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("sample", "sample (simulated)"),
        ("coingecko:keyless", "coingecko"),
        ("binance", "binance@coinbase"),
        ("binance:kraken", "binance@kraken"),
        ("kraken", "kraken"),
        ("coinbase", "coinbase"),
        ("defillama", "coingecko via defillama"),
    ],
)
def test_sources_of_the_library(spec, name):
    """Opening asks nobody for anything."""
    assert name == open_source(spec).name


def test_all_of_them_are_tried_here(tmp_path):
    assert open_source(f"csv:{tmp_path}").name.startswith("csv:")
    assert {"sample", "csv", "coingecko", "binance", "kraken", "coinbase", "defillama"} == set(BUILT_IN)
