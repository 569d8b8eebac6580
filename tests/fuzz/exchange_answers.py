"""Feed the parsers of answers of exchanges with what atheris thinks of; run it with the options of libFuzzer."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))
with atheris.instrument_imports(include=["tonsurance_risk.sources"]):
    from tests.property.test_source_answers import one_body

if __name__ == "__main__":
    atheris.Setup(sys.argv, one_body)
    atheris.Fuzz()
