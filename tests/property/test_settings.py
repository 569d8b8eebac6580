"""Whatever is given as a setting is used or refused, never anything else."""

from __future__ import annotations

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonsurance_risk.errors import SettingsError
from tonsurance_risk.settings import Settings
from tonsurance_risk.settings_reading import load_settings, settings_document

pytestmark = pytest.mark.no_cover  # not of core

KEYS = [
    *(field.name for field in attrs.fields(Settings)),
    "store.url", "source.spec", "schedule.daily_at", "schedule.weekly_on", "schedule.retention_days",
    "alerts.sinks", "alerts.allowed_hosts", "logging.json", "metrics.text_file",
]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.times() | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kind", "name", "url", "path"]) | st.text(max_size=8), inner, max_size=3
        )
        | st.fixed_dictionaries({"kind": st.sampled_from(["log", "file", "webhook", "pagerduty"]) | inner})
    ),
    max_leaves=6,
)


@given(st.sampled_from(KEYS), VALUES)
def test_a_value_is_used_or_refused(key: str, value: object) -> None:
    """The message is printable but for its line ends; what is used can be shown as JSON."""
    said = ""
    try:
        settings = load_settings(environment={}, overrides={key: value})
        json.dumps(settings_document(settings, {}), allow_nan=False)
    except SettingsError as error:
        said = str(error)
    assert all(line.isprintable() for line in said.split("\n"))


@given(st.text())
def test_no_password_of_the_store_is_shown(before: str) -> None:
    """Whatever letters it has."""
    environment = {"TONSURANCE_RISK_STORE_URL": f"postgresql://risk:{before}CANARY@db.example/risk"}
    try:
        shown = str(settings_document(load_settings(environment=environment), environment))
    except SettingsError as error:
        shown = str(error)
    assert "CANARY" not in shown
