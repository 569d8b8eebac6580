"""Sources by name: those of the library, and those of other distributions by way of entry points."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from tonsurance_risk.errors import SettingsError
from tonsurance_risk.ports import PriceSource
from tonsurance_risk.sources.csv_files import CsvSource
from tonsurance_risk.sources.sample import SampleSource

GROUP = "tonsurance_risk.sources"
"""The group of entry points: a name, and a callable that makes a `PriceSource` of the text after the colon."""


def open_source(spec: str) -> PriceSource:
    """Return the source that a text describes.

    Parameters
    ----------
    spec : str
        ``NAME`` or ``NAME:TEXT``: sample, csv:FOLDER, coingecko[:TIER], kraken, coinbase, defillama,
        binance[:SOURCE OF USDT], or a name that an installed distribution gives in the group
        ``tonsurance_risk.sources``.

    Raises
    ------
    SettingsError
        If the name is unknown, with near matches; if the text is not what that source takes; if a distribution's
        source cannot be made, naming the distribution.

    Examples
    --------
    >>> open_source("sample").name
    'sample (simulated)'
    >>> open_source("krakn")
    Traceback (most recent call last):
        ...
    tonsurance_risk.errors.SettingsError: unknown source 'krakn'; did you mean kraken? (known: ...)
    """
    name, _, text = spec.partition(":")
    given = [point for point in entry_points(group=GROUP) if point.name == name]
    if name in BUILT_IN:
        if given:
            raise SettingsError(
                f"the source {name!r} of the library is also given by {_owners(given)}; remove that"
            )
        return BUILT_IN[name](text)
    if len(given) > 1:
        raise SettingsError(f"the source {name!r} is given by {_owners(given)}; remove all but one")
    if given:
        return _plugged_in(given[0], text)
    known = source_names()
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise SettingsError(
        f"unknown source {spec!r}{hint} (known: {', '.join(known)}; a folder is csv:FOLDER)",
        observed=spec,
        required=known,
    )


def source_names() -> list[str]:
    """Return the names that `open_source` knows: of the library, then of other distributions.

    Examples
    --------
    >>> source_names()[:2]
    ['sample', 'csv']
    """
    return [*BUILT_IN, *sorted({point.name for point in entry_points(group=GROUP)} - set(BUILT_IN))]


def stored_name(spec: str) -> str:
    """Return the name under which prices of a source are stored; text that is no source is one already.

    Examples
    --------
    >>> stored_name("coingecko:pro"), stored_name("desk prices")
    ('coingecko', 'desk prices')
    """
    name = spec.partition(":")[0]
    if name == "coingecko":
        return name  # without the key that opening it needs
    if name in source_names():
        with suppress(SettingsError):
            return open_source(spec).name
    return spec


def _plugged_in(point: EntryPoint, text: str) -> PriceSource:
    where = f"the source {point.name!r} of {_owners([point])} ({point.value})"
    try:
        source = point.load()(text)
    except SettingsError:
        raise
    except Exception as error:
        raise SettingsError(
            f"{where} cannot be made: {type(error).__name__}: {error}", observed=point.value
        ) from error
    if not isinstance(source, PriceSource) or not isinstance(source.name, str) or not source.name:
        raise SettingsError(
            f"{where} gave {source!r}, which is no PriceSource: it needs a name and fetch", observed=point.value
        )
    return source


def _owners(points: list[EntryPoint]) -> str:
    distributions = [
        "an unknown distribution" if point.dist is None else f"{point.dist.name} {point.dist.version}"
        for point in points
    ]
    return " and ".join(sorted(distributions))


def _refuse_text(name: str, text: str) -> None:
    if text:
        raise SettingsError(f"the source {name!r} takes nothing after it, found {name}:{text}", observed=text)


def _sample(text: str) -> PriceSource:
    _refuse_text("sample", text)
    return SampleSource()


def _csv(text: str) -> PriceSource:
    if not text:
        raise SettingsError("the source 'csv' needs a folder: csv:FOLDER", observed=text)
    return CsvSource(text)


def _coingecko(text: str) -> PriceSource:
    from tonsurance_risk.sources.coingecko import source_from_environment

    return source_from_environment(text or None)


def _binance(text: str) -> PriceSource:
    from tonsurance_risk.sources.binance import BinanceSource

    # Coinbase has all bars of USDT against dollars, Kraken the last 720.
    return BinanceSource(open_source(text or "coinbase"))


def _kraken(text: str) -> PriceSource:
    from tonsurance_risk.sources.kraken import KrakenSource

    _refuse_text("kraken", text)
    return KrakenSource()


def _coinbase(text: str) -> PriceSource:
    from tonsurance_risk.sources.coinbase import CoinbaseSource

    _refuse_text("coinbase", text)
    return CoinbaseSource()


def _defillama(text: str) -> PriceSource:
    from tonsurance_risk.sources.defillama import DefiLlamaSource

    _refuse_text("defillama", text)
    return DefiLlamaSource()


BUILT_IN: Mapping[str, Callable[[str], PriceSource]] = MappingProxyType(
    {
        "sample": _sample,
        "csv": _csv,
        "coingecko": _coingecko,
        "binance": _binance,
        "kraken": _kraken,
        "coinbase": _coinbase,
        "defillama": _defillama,
    }
)
"""The sources of the library: the text after the colon makes them."""
