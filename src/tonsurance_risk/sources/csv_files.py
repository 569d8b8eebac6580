"""Prices in a folder of CSV files, one coin and one step a file."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import os
import re
from datetime import datetime, timedelta
from pathlib import Path

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.assets import canonical, find_asset
from tonsurance_risk.errors import (
    GranularityError,
    InvalidPriceError,
    PayloadError,
    SettingsError,
    SourceUnavailableError,
    UnknownAssetError,
)
from tonsurance_risk.sources.steps import between, other_distance, step_span
from tonsurance_risk.values import FloatArray, iso, text

# The years keep every stamp far from the ends of what pandas can count.
_NAIVE_STAMP = r"(?:19|20|21)\d\d-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)?"
_STAMP = re.compile(_NAIVE_STAMP + r"(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_STAMP_WITHOUT_ZONE = re.compile(_NAIVE_STAMP, re.ASCII)
# float() alone would also take "1_000", " 1 " and "nan".
_PRICE = re.compile(r"|[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?)", re.ASCII | re.IGNORECASE)


def _existing_folder(folder: str | os.PathLike[str]) -> Path:
    accepted = "accepted is a folder of files <ASSET>_1h.csv or <ASSET>_1d.csv"
    if not isinstance(folder, (str, os.PathLike)) or not os.fspath(folder):
        raise SettingsError(
            f"the folder of a CsvSource must be a path, found {folder!r}; {accepted}", observed=folder
        )
    path = Path(folder)
    if not path.is_dir():
        problem = "is not a folder" if path.exists() else "does not exist"
        raise SettingsError(f"{str(path)!r} {problem}; {accepted}", observed=str(path))
    return path


@attrs.frozen
class CsvSource:
    r"""Prices from the files ``<ASSET>_1h.csv`` and ``<ASSET>_1d.csv`` of a folder.

    A file has a header with the columns timestamp and price (others are ignored) and a row a bar, stamped
    with the bar's open. Its close is known one step later, and that is the stamp here. Files with another
    interval or a suffix (``USDC_1d_defillama.csv``) or quoted in another coin (``USDCUSDT_1h.csv``) are never
    read.

    Parameters
    ----------
    folder : path
        Where the files lie; read anew by each `fetch`.

    Raises
    ------
    SettingsError
        If there is no such folder.

    Examples
    --------
    >>> import tempfile
    >>> from datetime import UTC, datetime
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "DAI_1d.csv").write_text("timestamp,price\n2024-03-01T00:00:00Z,0.9992\n")
    ...     start, end = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 31, tzinfo=UTC)
    ...     CsvSource(folder).fetch("dai", start, end, step="1d")
    2024-03-02 00:00:00+00:00    0.9992
    Name: DAI, dtype: float64
    """

    folder: Path = attrs.field(converter=_existing_folder)

    @property
    def name(self) -> str:
        """``csv:``, the name of the folder, and a mark of its whole path: two folders are two sources."""
        path = self.folder.resolve()
        return f"csv:{path.name}@{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"

    def fetch(self, asset: str, start: datetime, end: datetime, *, step: str = "1h") -> pd.Series:
        """Return the prices of `asset` that became known in ``[start, end)``; see `PriceSource.fetch`.

        Parameters
        ----------
        asset : str
            A built-in symbol in any case, or a symbol of your own as its file spells it.
        start, end : datetime
            tz-aware; compared with the end of the bars.
        step : {"1h", "1d"}
            Which file to read.

        Returns
        -------
        Series of float
            [USD], stamped with the end of the bars.

        Raises
        ------
        UnknownAssetError
            If no file of that asset and step is there; near files are listed with why they are not read.
        GranularityError
            If `step` is another one, or the rows of the file are another step apart.
        PayloadError, InvalidPriceError
            As `parse_price_csv`.
        SourceUnavailableError
            If the folder or the file cannot be read.

        Examples
        --------
        See `CsvSource`.
        """
        step_span(step, self.name)
        path = _file_of(self.folder, canonical(text(asset, "asset")), step)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SourceUnavailableError(f"{path} cannot be read: {error}", asset=asset) from error
        return between(parse_price_csv(content, asset, step, str(path)), start, end)


def _file_of(folder: Path, asset: str, step: str) -> Path:
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".csv")
    except OSError as error:
        raise SourceUnavailableError(f"the folder {folder} cannot be read: {error}", asset=asset) from error
    ending = f"_{step}"
    bases = {path: path.stem.removesuffix(ending) for path in paths if path.stem.endswith(ending)}
    found = [path for path, base in bases.items() if canonical(base) == asset]
    if len(found) > 1:
        raise PayloadError(
            f"{folder} has several files of {asset}: {', '.join(path.name for path in found)}; keep one",
            asset=asset,
        )
    if not found:
        raise _no_file(folder, paths, asset, step)
    return found[0]


def _no_file(folder: Path, paths: list[Path], asset: str, step: str) -> UnknownAssetError:
    wanted = f"{asset}_{step}.csv"
    reasons = {path.name: why_not_read(path.stem, asset, step) for path in paths}
    near = [f"{name} ({reason})" for name, reason in reasons.items() if reason]
    hint = f"; not read instead: {', '.join(near)}" if near else ""
    return UnknownAssetError(
        f"no file {wanted} in {folder}, found {len(paths)} CSV file(s){hint}",
        asset=asset,
        observed=tuple(near),
        required=wanted,
    )


def why_not_read(stem: str, asset: str, step: str) -> str | None:
    """Return why the file of that name is not the one of `asset` and `step`; None where it is not near."""
    base, _, rest = stem.partition("_")
    interval, _, suffix = rest.partition("_")
    if canonical(base) == asset:
        other_interval = f"another interval, {interval or 'none'}" if interval != step else ""
        return ", ".join(filter(None, (other_interval, f"suffix _{suffix}" if suffix else "")))
    quote = find_asset(base[len(asset) :]) if base.casefold().startswith(asset.casefold()) else None
    return f"quoted in {quote.symbol}, not in USD" if quote else None


@attrs.frozen
class _Rows:
    """The two columns that count, as text, and the content they come from."""

    where: str
    asset: str
    content: str
    stamps: tuple[str, ...]
    prices: tuple[str, ...]

    def place(self, row: int) -> str:
        return _place(self.where, self.content, row + 1)


def _place(where: str, content: str, row: int) -> str:
    """Return file and line of a row, counted from the header; a quoted field may hold several lines."""
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    ends = [reader.line_num for _ in itertools.islice(reader, row + 1)]
    return f"{where}, line {ends[row]}"


def parse_price_csv(content: bytes, asset: str, step: str, where: str) -> pd.Series:
    r"""Return the prices in the content of a CSV file, stamped with the end of their bars.

    Parameters
    ----------
    content : bytes
        UTF-8: a header with the columns timestamp and price, then a row a bar stamped with its open. An empty
        price means that nothing was observed. Every line ends with a newline.
    asset : str
        The symbol, for the name of the Series and messages.
    step : {"1h", "1d"}
        The length of the bars.
    where : str
        The file, for messages.

    Returns
    -------
    Series of float
        [USD], strictly increasing UTC index, named as `get_asset` spells the asset; only observed prices.

    Raises
    ------
    PayloadError
        If the content is empty, binary, cut off, or not rows of a readable time and number.
    InvalidPriceError
        If a price is infinite, zero or negative, or a stamp naive, doubled or out of order.
    GranularityError
        If `step` is unknown, or at least three rows have a median distance beyond 1.5 steps or below 1 / 1.5.

    Examples
    --------
    >>> parse_price_csv(b"timestamp,price\n2024-03-01T07:00:00Z,0.9992\n", "usdc", "1h", "my.csv")
    2024-03-01 08:00:00+00:00    0.9992
    Name: USDC, dtype: float64
    """
    span = step_span(step, where)
    rows = _rows(_decoded(content, where), canonical(text(asset, "asset")), where)
    times = _times(rows)
    prices = _prices(rows, times)
    _check_spacing(rows, times, span, step)
    observed = ~np.isnan(prices)
    return pd.Series(prices[observed], index=times[observed] + span, name=rows.asset)


def _decoded(content: bytes, where: str) -> str:
    if not content.strip():
        raise PayloadError(f"{where} is empty; needed is a header timestamp,price and a row a bar")
    binary_at = content.find(0)
    try:
        decoded = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        binary_at = error.start if binary_at < 0 else min(binary_at, error.start)
    if binary_at >= 0:
        line = 1 + content.count(b"\n", 0, binary_at)
        raise PayloadError(f"{where}, line {line}: binary, not text in UTF-8")
    if not decoded.endswith("\n"):
        # A number that was cut cannot be told from a whole one.
        line = 1 + decoded.count("\n")
        raise PayloadError(f"{where}, line {line}: looks half written, no newline at the end of the last line")
    return decoded


def _rows(content: str, asset: str, where: str) -> _Rows:
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        table = list(reader)
    except csv.Error as error:
        raise PayloadError(f"{where}, line {reader.line_num}: {error}", asset=asset) from error
    header = table[0]
    if header.count("timestamp") != 1 or header.count("price") != 1:
        raise PayloadError(
            f"{where}, line 1: the header must have the columns timestamp and price once, found {header}",
            asset=asset,
            observed=header,
        )
    if len(table) == 1:
        raise PayloadError(f"{where} has a header but no rows", asset=asset)
    for row, cells in enumerate(table):
        if len(cells) != len(header):
            raise PayloadError(
                f"{_place(where, content, row)}: {len(cells)} field(s), the header has {len(header)}",
                asset=asset,
            )
    columns = dict(zip(header, zip(*table[1:], strict=True), strict=True))
    return _Rows(where, asset, content, columns["timestamp"], columns["price"])


def _first_mismatch(pattern: re.Pattern[str], cells: tuple[str, ...]) -> int | None:
    if all(map(pattern.fullmatch, cells)):
        return None
    return next(row for row, cell in enumerate(cells) if not pattern.fullmatch(cell))


def _times(rows: _Rows) -> pd.DatetimeIndex:
    row = _first_mismatch(_STAMP, rows.stamps)
    if row is not None:
        raise _not_a_stamp(rows, row)
    parsed = pd.to_datetime(list(rows.stamps), format="ISO8601", utc=True, errors="coerce")
    times = pd.DatetimeIndex(parsed).as_unit("us")
    if times.hasnans:
        raise _not_a_stamp(rows, int(np.flatnonzero(times.isna())[0]))
    backward = np.flatnonzero(np.diff(times.asi8) <= 0)
    if backward.size:
        row = int(backward[0]) + 1
        kind = "doubled" if times[row] == times[row - 1] else f"out of order after {iso(times[row - 1])}"
        raise InvalidPriceError(
            f"{rows.place(row)}: {rows.asset}: the stamp {iso(times[row])} is {kind}; stamps must increase",
            asset=rows.asset,
            time=times[row],
            observed=rows.stamps[row],
        )
    return times


def _not_a_stamp(rows: _Rows, row: int) -> InvalidPriceError | PayloadError:
    stamp = rows.stamps[row]
    accepted = "accepted is UTC like 2024-01-31T00:00:00Z"
    if _STAMP_WITHOUT_ZONE.fullmatch(stamp):
        return InvalidPriceError(
            f"{rows.place(row)}: {rows.asset}: the stamp {stamp} is naive; {accepted}",
            asset=rows.asset,
            observed=stamp,
        )
    return PayloadError(
        f"{rows.place(row)}: {stamp!r} is not a time of the years 1900 to 2199; {accepted}",
        asset=rows.asset,
        observed=stamp,
    )


def _prices(rows: _Rows, times: pd.DatetimeIndex) -> FloatArray:
    row = _first_mismatch(_PRICE, rows.prices)
    if row is not None:
        raise PayloadError(
            f"{rows.place(row)}: the price must be a number, found {rows.prices[row]!r}",
            asset=rows.asset,
            time=times[row],
            observed=rows.prices[row],
        )
    prices = np.array([float(price) if price else np.nan for price in rows.prices])
    impossible = np.flatnonzero(~(((prices > 0.0) & (prices < np.inf)) | np.isnan(prices)))
    if impossible.size:
        row = int(impossible[0])
        raise InvalidPriceError(
            f"{rows.place(row)}: {rows.asset} at {iso(times[row])} must have a price > 0 and finite "
            f"(empty: nothing observed), found {rows.prices[row]}",
            asset=rows.asset,
            time=times[row],
            observed=float(prices[row]),
        )
    return prices


def _check_spacing(rows: _Rows, times: pd.DatetimeIndex, span: timedelta, step: str) -> None:
    found = other_distance(times, span) if len(times) >= 3 else None
    if found is not None:
        raise GranularityError(
            f"{rows.where}: rows of step {step} must be {span} apart, found a median of {found}",
            asset=rows.asset,
            observed=found,
            required=span,
        )
