"""Secrets are found in every form in which text carries them, and hostile text takes no time."""

from __future__ import annotations

import json
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonsurance_risk.redaction import one_line, redact, redact_values

SECRET = 'p"ss/w\\rd é'


@pytest.mark.fault("F113")
@pytest.mark.parametrize("form", [str, repr, json.dumps, quote, lambda text: quote(text, safe="")])
def test_a_secret_is_found_in_the_forms_that_text_has(form) -> None:
    """As it is, in URLs, in JSON and in what `repr` shows."""
    found = redact(f"before {form(SECRET)} after", [SECRET])

    assert "before" in found
    assert "***" in found
    assert form(SECRET).strip("'\"") not in found


@pytest.mark.fault("F113")
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql+psycopg://risk:hunter2@db.example:5432/risk", "postgresql+psycopg://risk:***@db.example:5432/risk"),
        ("postgresql://risk:hun/t@er2@db.example/risk", "postgresql://risk:***@db.example/risk"),
        ("postgresql://:hunter2@db.example/risk", "postgresql://:***@db.example/risk"),
        ("postgresql://db.example/risk?user=a&password=hunter2&x=1", "postgresql://db.example/risk?user=a&password=***&x=1"),
        ("https://api.example/v3?x_cg_demo_api_key=hunter2", "https://api.example/v3?x_cg_demo_api_key=***"),
    ],
)  # fmt: skip
def test_passwords_of_urls(url: str, expected: str) -> None:
    assert expected == redact(url)
    assert f"('{expected}', 5)" == redact(f"('{url}', 5)")


@pytest.mark.parametrize(
    "text",
    ["", "sqlite:///a@b.db", "https://api.example:8443/x", "postgresql://risk@db.example/risk", "12:30 a@b.c"],
)
def test_what_holds_no_secret_stays(text: str) -> None:
    assert text == redact(text, ["", "absent"])


def test_the_longest_secret_goes_first() -> None:
    assert "***" == redact("abcdef", ["abc", "abcdef"])


@pytest.mark.parametrize(
    "text", ["y" * 500_000, "://a:" * 50_000, "?a" * 200_000, "&password" * 40_000, "a://" * 90_000]
)
def test_hostile_text_takes_no_time(text: str) -> None:
    """Linear; what is quadratic takes minutes for these."""
    started = time.process_time()
    redact(text)

    assert time.process_time() - started < 3.0


def test_values_of_json() -> None:
    given = {"a": ["x", {"key x": "x"}], "n": 1, "none": None, "yes": True}

    assert {"a": ["***", {"key ***": "***"}], "n": 1, "none": None, "yes": True} == redact_values(given, ["x"])


@pytest.mark.fault("F144")
@given(st.text())
def test_one_line_is_printable_and_changes_nothing_else(text: str) -> None:
    """Line breaks of every alphabet, control characters, turned writing, lone surrogates."""
    line = one_line(text)

    assert line.isprintable()
    assert not text.isprintable() or line == text
