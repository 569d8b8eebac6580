"""Vaults from files, runs from stored inputs, a sample vault, and the catalogue of known depegs."""

from __future__ import annotations

import csv
import difflib
import functools
import importlib.resources
import io
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.assets import STABLECOINS, check_symbols
from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.core.sample import LossSample
from tonsurance_risk.core.simulation import simulate_losses
from tonsurance_risk.errors import SettingsError
from tonsurance_risk.model import (
    AccruingPeg,
    Asset,
    Direction,
    FixedPeg,
    Peg,
    Policy,
    Scenario,
    Vault,
    own_assets,
)
from tonsurance_risk.values import FloatArray

_Json: TypeAlias = Any
"""What json.loads gives when objects are tuples of pairs."""

_POLICY_KEYS = tuple(field.name for field in attrs.fields(Policy))
_ASSET_KEYS = tuple(field.name for field in attrs.fields(Asset))
_FIXED_KEYS = tuple(field.name for field in attrs.fields(FixedPeg))
_ACCRUING_KEYS = tuple(field.name for field in attrs.fields(AccruingPeg))
_POLICY_NUMBERS = ("coverage", "trigger_price", "floor_price")


def read_vault(
    path: str | os.PathLike[str],
    *,
    capital: float | None = None,
    btc_value: float | None = None,
    assets: Iterable[Asset | str] = (),
) -> Vault:
    """Return the vault in a JSON or CSV file.

    A JSON file has the form of `Vault.to_dict`: an object with capital, policies, and perhaps btc_value,
    aggregate_limit and assets (coins of your own). A policy is an object with policy_id, asset, coverage,
    trigger_price and floor_price; a CSV file has these as its columns.

    Parameters
    ----------
    path : path
        A file ``.json`` or ``.csv``, UTF-8.
    capital : float, optional
        [USD]; needed for a CSV file, refused for a JSON file, which states its own.
    btc_value : float, optional
        [USD]; refused where the file states it; 0 where nobody does.
    assets : iterable of Asset or str
        Coins of your own, beside those of the file.

    Raises
    ------
    SettingsError
        (a `ValueError`) If the file is missing or cannot be read, a key, column or value is missing, unknown
        or wrong, or an amount is given twice; the message names the file, the policy and the field.
    UnknownAssetError
        If neither `get_asset` nor the coins of your own know the asset of a policy; near matches are listed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "vault.json")
    ...     _ = path.write_text(json.dumps(sample_vault().to_dict()))
    ...     read_vault(path) == sample_vault()
    True
    """
    where = os.fspath(path)
    match Path(path).suffix.casefold():
        case ".json":
            form = _json_form(_text(path), where)
            if capital is not None:
                raise SettingsError(f"{where} states its own capital; leave out capital={capital!r}")
        case ".csv":
            if capital is None:
                raise SettingsError(f"{where}: a CSV file has no capital; give capital= [USD]")
            form = {"capital": capital, "policies": _csv_policies(_text(path), where)}
        case suffix:
            raise SettingsError(f"{where}: accepted are files .json and .csv, found {suffix!r}")
    if btc_value is not None:
        if "btc_value" in form:
            raise SettingsError(f"{where} states its own btc_value; leave out btc_value={btc_value!r}")
        form["btc_value"] = btc_value
    return _vault(form, assets, where)


def simulate_again(document: Mapping[str, Any]) -> LossSample:
    """Return the run that stored inputs describe, simulated again: the same losses on the same kind of machine.

    Parameters
    ----------
    document : mapping
        As `RiskReport.run_inputs` gives it and `ResultStore.load_run_inputs` returns it.

    Returns
    -------
    LossSample

    Raises
    ------
    SettingsError
        If it is not such a document.

    Examples
    --------
    >>> document = {
    ...     "vault": {"capital": 1e6, "policies": []},
    ...     "scenarios": [{"name": "calm", "probability": 1.0}],
    ...     "correlation": {"assets": ["USDC"], "values": [[1.0]]},
    ...     "volatility": {},
    ...     "settings": {"n": 100, "seed": 0, "sampling": "stratified"},
    ... }
    >>> simulate_again(document).worst
    0.0
    """
    where = "the inputs of a run"
    try:
        vault = _json_form(json.dumps(document["vault"]), where)
        symbols = list(document["correlation"]["assets"])
        correlation = pd.DataFrame(document["correlation"]["values"], index=symbols, columns=symbols)
        settings = document["settings"]
        return simulate_losses(
            _vault(vault, (), where),
            [Scenario(**scenario) for scenario in document["scenarios"]],
            correlation=CorrelationMatrix.from_frame(correlation),
            volatility=document["volatility"],
            n=settings["n"],
            seed=settings["seed"],
            sampling=settings["sampling"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError(f"{where} cannot be read: {error!r}") from error


def vault_of(document: Mapping[str, Any], where: str = "the vault") -> Vault:
    """Return the vault of a document that `Vault.to_dict` gave; errors as of `read_vault`."""
    return _vault(_json_form(json.dumps(document), where), (), where)


def _text(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(f"{os.fspath(path)} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise SettingsError(f"{os.fspath(path)} cannot be read as text in UTF-8: {error}") from error


def _vault(form: Mapping[str, Any], assets: Iterable[Asset | str], where: str) -> Vault:
    try:
        vault = Vault(
            _as_float(form["capital"]),
            form["policies"],
            btc_value=_as_float(form.get("btc_value", 0.0)),
            assets=(*form.get("assets", ()), *own_assets(assets)),
            aggregate_limit=_as_float(form.get("aggregate_limit")),
        )
        check_symbols(vault)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from error
    return vault


def _json_form(content: str, where: str) -> dict[str, Any]:
    try:
        # Pairs, not a dict, so that a key that comes twice can be reported with its place.
        document = json.loads(content, object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{where} is not JSON: {error}") from error
    form = _object(
        document, where, required=("capital", "policies"), optional=("btc_value", "assets", "aggregate_limit")
    )
    policies = _list(form["policies"], f"{where}: policies")
    form["policies"] = [_json_policy(entry, row, where) for row, entry in enumerate(policies)]
    own = _list(form.get("assets", []), f"{where}: assets")
    form["assets"] = [_asset(entry, f"{where}: assets[{row}]") for row, entry in enumerate(own)]
    return form


def _json_policy(entry: _Json, row: int, where: str) -> Policy:
    policy_id = dict(entry).get("policy_id") if isinstance(entry, tuple) else None
    place = f"{where}: policies[{row}] ({policy_id!r})"
    return _policy(_object(entry, place, required=_POLICY_KEYS), place)


def _policy(fields: dict[str, Any], place: str) -> Policy:
    try:
        return Policy(**fields | {name: _as_float(fields[name]) for name in _POLICY_NUMBERS})
    except ValueError as error:
        raise SettingsError(f"{place}: {error}") from error


def _asset(entry: _Json, place: str) -> Asset:
    fields = _object(entry, place, required=("symbol",), optional=_ASSET_KEYS)
    coingecko_id = fields.get("coingecko_id")
    if coingecko_id is not None and not isinstance(coingecko_id, str):
        raise SettingsError(f"{place}: coingecko_id must be text or null, found {coingecko_id!r}")
    if "peg" in fields:
        fields["peg"] = _peg(fields["peg"], f"{place}: peg")
    try:
        return Asset(**fields)
    except ValueError as error:
        raise SettingsError(f"{place}: {error}") from error


def _peg(entry: _Json, place: str) -> Peg | None:
    if entry is None:
        return None
    fields = _object(entry, place, optional=(*_FIXED_KEYS, *_ACCRUING_KEYS))
    numbers = {name: _as_float(value) for name, value in fields.items()}
    try:
        if fields.keys() == {*_FIXED_KEYS}:
            return FixedPeg(**numbers)
        if fields and fields.keys() <= {*_ACCRUING_KEYS}:
            return AccruingPeg(**numbers)
    except ValueError as error:
        raise SettingsError(f"{place}: {error}") from error
    raise SettingsError(
        f"{place} must be null, an object with price, or one with rise, fall or start, found the keys "
        f"{list(fields)}"
    )


def _csv_policies(content: str, where: str) -> list[Policy]:
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        table = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise SettingsError(f"{where}, line {reader.line_num}: {error}") from error
    if not table:
        raise SettingsError(f"{where} is empty; needed are the columns {', '.join(_POLICY_KEYS)}")
    (_, header), *rows = table
    _check_keys(header, where, _POLICY_KEYS)
    policies = []
    for row, (line, cells) in enumerate(rows):
        place = f"{where}, line {line}: policies[{row}]"
        if len(cells) != len(header):
            raise SettingsError(f"{place}: {len(cells)} field(s), the header has {len(header)}")
        fields: dict[str, Any] = dict(zip(header, cells, strict=True))
        numbers = {name: _number_in(fields[name]) for name in _POLICY_NUMBERS}
        policies.append(_policy(fields | numbers, f"{place} ({fields['policy_id']!r})"))
    return policies


def _number_in(cell: str) -> float | str:
    """Return the number in a cell, or the cell, which `Policy` then refuses with the name of its field."""
    try:
        return float(cell)
    except ValueError:
        return cell


def _as_float(value: _Json) -> _Json:
    """Return a whole number of JSON as a float, and everything else as it is, to be checked by its record."""
    if type(value) is not int:
        return value
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _list(value: _Json, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise SettingsError(f"{place} must be a list, found {_shown(value)}")
    return value


def _object(
    value: _Json, place: str, *, required: tuple[str, ...] = (), optional: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the pairs of a JSON object as a dict when its keys are those that are accepted."""
    if not isinstance(value, tuple):
        accepted = ", ".join(dict.fromkeys((*required, *optional)))
        raise SettingsError(f"{place} must be an object with {accepted}, found {_shown(value)}")
    _check_keys([key for key, _ in value], place, required, optional)
    return dict(value)


def _check_keys(keys: list[str], place: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    known = tuple(dict.fromkeys((*required, *optional)))
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SettingsError(f"{place}: unknown key {key!r}{hint} (accepted: {', '.join(known)})")
        if keys.count(key) > 1:
            raise SettingsError(f"{place}: the key {key!r} comes more than once")
    missing = [key for key in required if key not in keys]
    if missing:
        raise SettingsError(f"{place}: missing {', '.join(missing)} (needed: {', '.join(required)})")


def _shown(value: _Json) -> str:
    return "an object" if isinstance(value, tuple) else "a list" if isinstance(value, list) else repr(value)


_SAMPLE_POLICIES = {
    "USDC": 260,
    "USDT": 220,
    "DAI": 150,
    "USDe": 130,
    "PYUSD": 90,
    "FRAX": 80,
    "sUSDe": 70,
    "GHO": 60,
    "USDP": 45,
    "crvUSD": 40,
    "LUSD": 35,
    "BUSD": 27,
    "USDY": 25,
    "mkUSD": 15,
}
_SAMPLE_COVERAGE, _SAMPLE_SMALLEST = 35_000_000, 1_000


def sample_vault() -> Vault:
    """Return an invented vault, always the same: 1,247 policies on all 14 coins.

    Examples
    --------
    >>> vault = sample_vault()
    >>> len(vault.policies), vault.coverage, vault.capital, vault.btc_value
    (1247, 35000000.0, 50000000.0, 2000000.0)
    """
    symbols = [asset.symbol for asset in STABLECOINS for _ in range(_SAMPLE_POLICIES[asset.symbol])]
    rng = np.random.default_rng(1247)
    n = len(symbols)
    policies = {
        "policy_id": [f"P{number:04d}" for number in range(1, n + 1)],
        "asset": symbols,
        "coverage": _shared_out(rng.lognormal(sigma=1.0, size=n)),
        "trigger_price": rng.choice([0.95, 0.96, 0.965, 0.97, 0.975, 0.98], size=n),
        "floor_price": rng.choice([0.40, 0.45, 0.50, 0.55, 0.60, 0.65, 0.70], size=n),
    }
    return Vault.from_frame(pd.DataFrame(policies), capital=50_000_000.0, btc_value=2_000_000.0)


def _shared_out(weights: FloatArray) -> FloatArray:
    """Return whole dollars in proportion to `weights` above the smallest coverage, of exactly the sum."""
    spare = _SAMPLE_COVERAGE - _SAMPLE_SMALLEST * len(weights)
    dollars = np.floor(spare * weights / weights.sum())
    dollars[: spare - int(dollars.sum())] += 1.0
    return np.asarray(_SAMPLE_SMALLEST + dollars)


Precision: TypeAlias = Literal["second", "day", "month"]
_STAMP_FORMATS: Mapping[int, tuple[Precision, str]] = {
    len("2023-03-11T01:54:03Z"): ("second", "%Y-%m-%dT%H:%M:%SZ"),
    len("2023-03-11"): ("day", "%Y-%m-%d"),
    len("2023-03"): ("month", "%Y-%m"),
}


@attrs.frozen(kw_only=True)
class KnownDepeg:
    """A depeg as one venue or index showed it, with where that was read.

    Parameters
    ----------
    asset : str
        The coin as its source names it; many are not built in.
    start, end : Timestamp
        UTC; the beginning of the second, day or month that the source states. None: no end was reported.
    start_precision, end_precision : {"second", "day", "month"}
        How precisely it states them.
    min_price, max_price : float or None
        Lowest and highest price [USD], None where not reported.
    venue : str
        The venue or index of the prices; empty where not reported.
    cause : str
        The cause as reported; marked where inferred or not verified.
    source : str
        Where the row was read, several parted by "; ".
    confidence : {"high", "medium"}
        In date and price, not in the cause.
    """

    asset: str
    start: pd.Timestamp
    start_precision: Precision
    end: pd.Timestamp | None
    end_precision: Precision | None
    min_price: float | None
    max_price: float | None
    venue: str
    cause: str
    source: str
    confidence: Literal["high", "medium"]

    @property
    def direction(self) -> Direction:
        """Above where only a highest price was reported, below otherwise, also where both or none were."""
        return "above" if self.min_price is None and self.max_price is not None else "below"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and the direction in JSON types, times cut to the precision stated."""
        start, end = _stamp_text(self.start, self.start_precision), _stamp_text(self.end, self.end_precision)
        return attrs.asdict(self) | {"start": start, "end": end, "direction": self.direction}


def known_depegs() -> list[KnownDepeg]:
    """Return the sourced depegs of the past, 2017 to 2026, a row an event and venue.

    Returns
    -------
    list of KnownDepeg
        Ordered by (asset, start), of high or medium confidence; known false prints are not among them.

    Notes
    -----
    One event is there as often as venues reported it, with different lows: USDC of 11 March 2023 between 0.81
    and 0.88. Count distinct events, never rows, for a rate.

    Examples
    --------
    >>> usdc = [depeg for depeg in known_depegs() if depeg.asset == "USDC" and depeg.direction == "below"]
    >>> min(depeg.min_price for depeg in usdc if depeg.start.year == 2023 and depeg.confidence == "high")
    0.87
    """
    return list(_catalogue())


@functools.cache
def _catalogue() -> tuple[KnownDepeg, ...]:
    path = importlib.resources.files("tonsurance_risk") / "catalogue" / "known_depegs.csv"
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines(), strict=True)
    return tuple(sorted(map(_known_depeg, rows), key=lambda depeg: (depeg.asset, depeg.start)))


def _known_depeg(row: Mapping[str, str]) -> KnownDepeg:
    fields: dict[str, Any] = {name: row[name] for name in ("asset", "cause", "source", "confidence")}
    for name in ("start", "end"):
        stated = row[f"{name}_utc"]
        fields[name], fields[f"{name}_precision"] = _stated_time(stated) if stated else (None, None)
    for name in ("min_price", "max_price"):
        fields[name] = float(row[name]) if row[name] else None
    return KnownDepeg(venue=row["venue_or_index"], **fields)


def _stated_time(stamp: str) -> tuple[pd.Timestamp, Precision]:
    precision, form = _STAMP_FORMATS[len(stamp)]
    return pd.to_datetime(stamp, format=form, utc=True), precision


def _stamp_text(time: pd.Timestamp | None, precision: Precision | None) -> str | None:
    if time is None:
        return None
    return time.strftime(next(form for name, form in _STAMP_FORMATS.values() if name == precision))
