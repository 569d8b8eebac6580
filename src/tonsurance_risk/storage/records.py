"""What both stores do alike: arguments checked, and nouns turned into rows and back. Pure."""

from __future__ import annotations

import json
import operator
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias, cast

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.assets import canonical
from tonsurance_risk.core.comparison import SNAPSHOT_COLUMNS
from tonsurance_risk.core.fingerprint import canonical_json, content_hash
from tonsurance_risk.core.prices import valid_index
from tonsurance_risk.model import Scenario
from tonsurance_risk.ports import WriteResult
from tonsurance_risk.storage.instants import index_of_microseconds, index_to_microseconds, whole_microseconds
from tonsurance_risk.values import text, unique

Row: TypeAlias = dict[str, Any]


MOST_ASSETS = 10_000
"""A statement takes a limited number of parameters: 32,766 on SQLite, 65,535 on PostgreSQL."""


class StoredRow(Protocol):
    """A row as it is read: values by the names of columns."""

    def __getitem__(self, name: str, /) -> Any: ...


Outcome: TypeAlias = Literal["new", "changed", "unchanged"]


def outcome(stored: object, given: object) -> Outcome:
    """Return what writing `given` over `stored` (None: nothing stored) amounts to."""
    if stored is None:
        return "new"
    return "unchanged" if stored == given else "changed"


def counted(outcomes: Iterable[Outcome]) -> WriteResult:
    """Return how many rows were new, changed and unchanged."""
    count = Counter(outcomes)
    return WriteResult(count["new"], count["changed"], count["unchanged"])


def total(results: Iterable[WriteResult]) -> WriteResult:
    """Return the sum of several writes."""
    counts = [attrs.astuple(result) for result in results]
    return WriteResult(*map(sum, zip(*counts, strict=True))) if counts else WriteResult(0, 0, 0)


def storable(value: object, name: str) -> str:
    """Return `value` when it is a non-empty string that every database can keep; else a `ValueError`."""
    return encodable(text(value, name), name)


def encodable(value: object, name: str) -> str:
    """Return `value` when it is a string, empty or not, that every database can keep; else a `ValueError`."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string, found {value!r}")
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"{name} must be text without NUL and lone surrogates, found {value!r}")
    return value


def only_text(value: str | None, name: str) -> str | None:
    """Return `value` when it is None (any) or `storable`; else a `ValueError`."""
    return None if value is None else storable(value, name)


def place_of(source: str, step: str) -> Row:
    """Return what everything of a source and step is stored by; a `ValueError` if one is not `storable`."""
    return {"source": storable(source, "source"), "step": storable(step, "step")}


def wanted_assets(assets: Iterable[str] | None) -> list[str] | None:
    """Return the symbols asked for, as `get_asset` spells them; None when all are."""
    if assets is None:
        return None
    if isinstance(assets, str):
        raise ValueError(f"assets must be several symbols, found the one string {assets!r}")
    symbols = [canonical(storable(symbol, "a symbol in assets")) for symbol in assets]
    unique(symbols, "assets")
    if len(symbols) > MOST_ASSETS:
        raise ValueError(
            f"assets must be at most {MOST_ASSETS:,} symbols, found {len(symbols):,}; leave them out for all"
        )
    return symbols


def check_columns(table: object, name: str, columns: Sequence[str]) -> None:
    """Refuse what is no table of these columns, in whatever order."""
    found = list(table.columns) if isinstance(table, pd.DataFrame) else type(table).__name__
    if not isinstance(found, list) or sorted(map(str, found)) != sorted(columns):
        raise ValueError(f"{name} must be a DataFrame of the columns {columns}, found {found}")


def input_row(document: Mapping[str, Any]) -> Row:
    """Return the row of the inputs of a run, keyed by the SHA-256 of their canonical JSON in hex."""
    encoded = canonical_json(document, "the inputs of a run")
    return {"content_hash": content_hash(document), "document": encoded}


def input_document(row: StoredRow | None, content_hash: str) -> dict[str, Any]:
    """Return the inputs of a row; a `LookupError` naming the hash where there is none."""
    if row is None:
        raise LookupError(f"no inputs of a run have the content hash {content_hash!r}")
    return decoded(row)


def decoded(row: StoredRow) -> dict[str, Any]:
    """Return the document of a row."""
    document: dict[str, Any] = json.loads(row["document"])
    return document


def report_rows(documents: Iterable[Mapping[str, Any]], source: str, step: str) -> list[Row]:
    """Return a row a report, keyed by (source, step, as_of)."""
    key = place_of(source, step)
    rows = []
    for document in documents:
        canonical_json(document, "a report")  # refuses what is no JSON
        # Kept in its own order, so that a report written again from the store is the same bytes.
        rows.append(key | {"as_of": _report_time(document), "document": json.dumps(dict(document))})
    return rows


def _report_time(document: Mapping[str, Any]) -> pd.Timestamp:
    value = document.get("as_of")
    try:
        time = datetime.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ValueError(f"as_of of a report must be an ISO 8601 time, found {value!r}") from error
    return whole_microseconds(time, "as_of of a report")


def snapshot_rows(snapshots: pd.DataFrame, source: str, step: str) -> list[Row]:
    """Return a row a snapshot, keyed by (source, step, time)."""
    key = place_of(source, step)
    check_columns(snapshots, "snapshots", SNAPSHOT_COLUMNS)
    index = valid_index(snapshots.index, "snapshots")
    index_to_microseconds(index, "snapshots")
    values = _snapshot_values(snapshots)
    return [
        key | {"time": time} | dict(zip(SNAPSHOT_COLUMNS, numbers, strict=True))
        for time, numbers in zip(index, values, strict=True)
    ]


def _snapshot_values(snapshots: pd.DataFrame) -> list[list[float]]:
    columns = []
    for name in SNAPSHOT_COLUMNS:
        column = snapshots[name]
        if not pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
            raise ValueError(f"snapshots: {name} must be numbers, found the type {column.dtype}")
        columns.append(column.to_numpy(dtype=np.float64, na_value=np.nan))
    values = np.column_stack(columns)
    wrong = np.argwhere(~np.isfinite(values))
    if wrong.size:
        row, column_number = (int(k) for k in wrong[0])
        raise ValueError(
            f"snapshots: {SNAPSHOT_COLUMNS[column_number]} at {snapshots.index[row]} must be finite, "
            f"found {float(values[row, column_number])!r}"
        )
    return cast("list[list[float]]", values.tolist())


def snapshot_frame(rows: Iterable[StoredRow]) -> pd.DataFrame:
    """Return the snapshots of rows, oldest first."""
    ordered = sorted(rows, key=operator.itemgetter("time"))
    ticks = np.array([row["time"].as_unit("us").asm8.astype(np.int64) for row in ordered], dtype=np.int64)
    values = np.array([[row[name] for name in SNAPSHOT_COLUMNS] for row in ordered], dtype=np.float64)
    return pd.DataFrame(
        values.reshape(-1, len(SNAPSHOT_COLUMNS)),
        index=index_of_microseconds(ticks),
        columns=list(SNAPSHOT_COLUMNS),
    )


def scenario_rows(scenarios: Iterable[Scenario]) -> list[Row]:
    """Return a row a scenario, keyed by its name."""
    rows = []
    for scenario in scenarios:
        if not isinstance(scenario, Scenario):
            raise ValueError(f"scenarios must be of the type Scenario, found {scenario!r}")
        row = {name: plain(value) for name, value in attrs.asdict(scenario, recurse=False).items()}
        for name in ("name", "kind", "source"):
            encodable(row[name], f"{name} of a scenario")
        prices = {symbol: plain(price) for symbol, price in scenario.prices.items()}
        rows.append(row | {"prices": json.dumps(prices, allow_nan=False)})
    return rows


def scenario_of(row: StoredRow) -> Scenario:
    """Return the scenario of a row."""
    fields = {field.name: row[field.name] for field in attrs.fields(Scenario)}
    return Scenario(**fields | {"prices": json.loads(row["prices"])})


def plain(value: object) -> object:
    """Return a NumPy scalar as the Python number that it is; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value
