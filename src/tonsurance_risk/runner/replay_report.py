"""A report made again from the store, as it was known then, and compared with what it said."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import attrs
import pandas as pd

from tonsurance_risk.assessment import assess
from tonsurance_risk.core.alert_memory import OpenAlert
from tonsurance_risk.core.comparison import SNAPSHOT_COLUMNS
from tonsurance_risk.core.documents import Difference, differences
from tonsurance_risk.core.explanation import EarlierRun
from tonsurance_risk.core.fingerprint import content_hash
from tonsurance_risk.errors import InsufficientDataError, SettingsError
from tonsurance_risk.inputs import vault_of
from tonsurance_risk.model import Scenario
from tonsurance_risk.ports import Store
from tonsurance_risk.report import SCHEMA_VERSION, RiskReport
from tonsurance_risk.runner.daily import settings_hash
from tonsurance_risk.runner.desk import INSTANT, RETENTION, Place, watched_assets
from tonsurance_risk.runner.earlier import stored_run
from tonsurance_risk.runner.prices import other_prices
from tonsurance_risk.values import iso
from tonsurance_risk.version import __version__

_Document = Mapping[str, Any]


@attrs.frozen(kw_only=True)
class ReportReplay:
    """What came out when a report was made again.

    Parameters
    ----------
    report : RiskReport
        Made from the store.
    document : dict
        Its document, with what a run adds.
    differences : tuple of Difference
        Between what the report said (old) and says now (new); `generated_at` is not compared.
    causes : tuple of str
        What explains them; none where there are none.
    unchecked : tuple of str
        What a run wrote down and the store does not have any more, because it has another report of that instant.
    """

    report: RiskReport = attrs.field(repr=False)
    document: dict[str, Any] = attrs.field(repr=False)
    differences: tuple[Difference, ...]
    causes: tuple[str, ...]
    unchecked: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether every number is the same to the last bit, and all else."""
        return not self.differences

    def to_dict(self) -> dict[str, Any]:
        """Return what was found in JSON types."""
        return {
            "equal": self.equal,
            "causes": list(self.causes),
            "differences": [one.to_dict() for one in self.differences],
            "unchecked": list(self.unchecked),
        }


def replay_report(store: Store, document: _Document) -> ReportReplay:
    """Make a report again from the store and say what differs, and why.

    Parameters
    ----------
    store : Store
        The one that the report was made with.
    document : mapping
        As `RiskReport.to_dict` gave it, with what a run adds.

    Returns
    -------
    ReportReplay

    Raises
    ------
    SettingsError
        If the document is not of this schema version.
    InsufficientDataError
        If the store does not have what the report was made from.
    """
    said = json.loads(json.dumps(document))
    inputs = _run_inputs(store, said)
    report = _made_again(store, said, inputs)
    recorded = _recorded(store, inputs)
    made: dict[str, Any] = json.loads(report.to_json())
    same_run = recorded is not None and recorded["inputs"]["run_inputs_sha256"] == content_hash(inputs)
    facts: _Document = recorded if same_run and recorded is not None else said
    made["inputs"]["simulations_asked"] = facts["inputs"].get("simulations_asked")
    made["inputs"]["settings_sha256"] = settings_hash(
        report.vault, report.scenarios, _place(inputs), report.sample.seed, made["inputs"]["simulations_asked"]
    )
    made["data_quality"]["failed_to_fetch"] = facts["data_quality"].get("failed_to_fetch")
    made["alert_changes"] = facts["alert_changes"]
    said["generated_at"] = made["generated_at"]
    found = tuple(differences(said, made))
    written_down = ("inputs.simulations_asked", "data_quality.failed_to_fetch", "alert_changes")
    return ReportReplay(
        report=report,
        document=made,
        differences=found,
        causes=tuple(_causes(said, made, inputs, recorded)) if found else (),
        unchecked=() if same_run else written_down,
    )


def report_made_again(store: Store, document: _Document) -> RiskReport:
    """Return the report that a stored document describes, made again from what the store knew then.

    Parameters and errors are those of `replay_report`, which says whether the numbers are the same.
    """
    return _made_again(store, document, _run_inputs(store, document))


def _made_again(store: Store, document: _Document, inputs: _Document) -> RiskReport:
    as_of, known_at = pd.Timestamp(inputs["as_of"]), pd.Timestamp(document["generated_at"])
    since, until, place = as_of - RETENTION, as_of + INSTANT, _place(inputs)
    vault = vault_of(inputs["vault"])
    prices = store.load_prices(watched_assets(vault), since, until, **place, known_at=known_at)
    if prices.isna().all(axis=None):
        raise InsufficientDataError(
            f"the store held no {place['step']} prices of {place['source']} of the two years up to {iso(as_of)} "
            f"at {iso(known_at)}, when the report was made",
            time=known_at,
        )
    times = pd.DatetimeIndex([row["time"] for row in inputs["history"]], tz="UTC")
    history = pd.DataFrame(
        {name: [row[name] for row in inputs["history"]] for name in SNAPSHOT_COLUMNS}, index=times, dtype=float
    )
    return assess(
        prices,
        vault,
        as_of=as_of,
        scenarios=[Scenario(**scenario) for scenario in inputs["scenarios"]],
        history=history,
        step=place["step"],
        generated_at=known_at,
        seed=inputs["settings"]["seed"],
        n=inputs["settings"]["n"],
        source=place["source"],
        others=other_prices(store, place["source"], place["step"], since, until, known_at),
        before=_before(store, inputs),
        open_alerts=[OpenAlert.from_dict(one) for one in inputs["open_alerts"]],
    )


def _before(store: Store, inputs: _Document) -> EarlierRun | None:
    if inputs["before"] is None:
        return None
    try:
        return stored_run(store, inputs["before"])
    except LookupError as error:
        raise InsufficientDataError(
            f"the store does not have what the report before, of {inputs['before']['as_of']}, was made from"
        ) from error


def _run_inputs(store: Store, document: _Document) -> dict[str, Any]:
    """Return what the report was made from; a report that names what is not there may still be in the store."""
    if document.get("schema_version") != SCHEMA_VERSION:
        raise SettingsError(
            f"a report of schema version {document.get('schema_version')!r} cannot be made again, "
            f"this software makes version {SCHEMA_VERSION}"
        )
    named = document["inputs"]["run_inputs_sha256"]
    with suppress(LookupError):
        return store.load_run_inputs(named)
    recorded = _recorded(store, {"as_of": document["as_of"], **_place(document["inputs"])})
    if recorded is not None:
        with suppress(LookupError):
            return store.load_run_inputs(recorded["inputs"]["run_inputs_sha256"])
    lost = "it lost the inputs" if recorded is not None else "the report was not made with this store"
    raise InsufficientDataError(
        f"the store has neither the inputs {named} nor those of another report of {document['inputs']['source']} "
        f"{document['inputs']['step']} at {document['as_of']}: {lost}",
        time=pd.Timestamp(document["as_of"]),
    )


def _place(inputs: _Document) -> Place:
    return {"source": inputs["source"], "step": inputs["step"]}


def _recorded(store: Store, inputs: _Document) -> dict[str, Any] | None:
    as_of = pd.Timestamp(inputs["as_of"])
    return next(iter(store.load_reports(as_of, as_of + INSTANT, **_place(inputs))), None)


def _causes(said: _Document, made: _Document, inputs: _Document, recorded: _Document | None) -> Iterator[str]:
    """Yield what explains that a report does not come out again."""
    before = said["inputs"]
    if said["software_version"] != __version__:
        yield f"software version: the report was made by {said['software_version']}, this is {__version__}"
    if before["run_inputs_sha256"] != content_hash(inputs):
        yield f"inputs: the store does not have those that the report names ({before['run_inputs_sha256']})"
    if before["vault_sha256"] != made["inputs"]["vault_sha256"]:
        yield "vault: the report names another one than its inputs have"
    if before.get("settings_sha256") != made["inputs"]["settings_sha256"]:
        yield "settings: vault, scenarios, seed, simulations or software are not those of the report"
    if before["prices_sha256"] != made["inputs"]["prices_sha256"]:
        yield from _changed_prices(before["assets"], made["inputs"]["assets"])
    if before["other_sources"] != made["inputs"]["other_sources"]:
        yield "other sources: what they showed then is not what the store held"
    if recorded is None:
        yield "the store has no report of that source, step and instant"
    elif recorded["generated_at"] == said["generated_at"] and (changed := list(differences(recorded, said))):
        yield f"the report was changed after it was stored, in {len(changed)} place(s)"
    elif recorded["generated_at"] != said["generated_at"]:
        yield f"the store has a report of that instant that was made at {recorded['generated_at']}"


def _changed_prices(before: _Document, now: _Document) -> Iterator[str]:
    """Yield a line an asset whose prices are not those of the report."""
    changed = [asset for asset in {**before, **now} if before.get(asset) != now.get(asset)]
    for asset in changed:
        old, new = before.get(asset), now.get(asset)
        if old is None or new is None:
            yield f"prices: {asset} is {'not in the report' if old is None else 'not in the store'}"
            continue
        spans = [f"{one['observations']:,} from {one['first']} to {one['last']}" for one in (old, new)]
        same = "the same stamps or as many others" if spans[0] == spans[1] else f"now {spans[1]}"
        if new["first"] > old["first"]:
            same += ": what was before is not in the store, because it was archived or deleted"
        yield f"prices: those of {asset} are others than the report had ({spans[0]}; {same})"
    if not changed:
        yield "prices: the hash is not that of the prices of the assets that the report names"
