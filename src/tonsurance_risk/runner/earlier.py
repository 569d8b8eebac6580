"""The run of the report before, from the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from tonsurance_risk.core.explanation import EarlierRun
from tonsurance_risk.inputs import simulate_again
from tonsurance_risk.ports import ResultStore

PUBLISHED = ("var_95", "var_99", "cvar_95", "cvar_99")


def earlier_run(store: ResultStore, before: Iterable[Mapping[str, Any]]) -> EarlierRun | None:
    """Return the run of the newest report of those before; None without one, or without its inputs."""
    reports = list(before)
    if not reports:
        return None
    last = reports[-1]
    try:
        return stored_run(
            store,
            {
                "as_of": last["as_of"],
                "run_inputs_sha256": last["inputs"]["run_inputs_sha256"],
                "published": {measure: last["var_analysis"][measure]["value"] for measure in PUBLISHED},
            },
        )
    except LookupError:
        return None


def stored_run(store: ResultStore, document: Mapping[str, Any]) -> EarlierRun:
    """Return the run that `EarlierRun.to_dict` gave; a `LookupError` where the store does not have its inputs."""
    named = document["run_inputs_sha256"]
    return EarlierRun(
        as_of=pd.Timestamp(document["as_of"]),
        run_inputs_sha256=named,
        sample=simulate_again(store.load_run_inputs(named)),
        published=document["published"],
    )
