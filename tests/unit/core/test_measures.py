"""Tail measures by example."""

from __future__ import annotations

from tonsurance_risk.core.measures import value_at_risk


def test_placeholder():
    assert 1.0 == value_at_risk([1.0], 0.5)
