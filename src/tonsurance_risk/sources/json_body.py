"""Bodies of answers as JSON: strict, fast, and with one error."""

from __future__ import annotations

import codecs
from typing import Any

import orjson

from tonsurance_risk.errors import PayloadError
from tonsurance_risk.sources.http_errors import excerpt


def parse_json(body: bytes) -> Any:
    r"""Return what a body says.

    Raises
    ------
    PayloadError
        If it is not UTF-8 (with or without a byte order mark), not JSON (``NaN`` and ``Infinity`` are none), has a
        number beyond float64, or is nested more than 1,024 deep; its beginning is shown.

    Examples
    --------
    >>> parse_json(b'{"usd": 1}')
    {'usd': 1}
    """
    try:
        return orjson.loads(body.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        problem = str(error)
    # Outside of the handler: the error of the parser carries the whole body.
    raise PayloadError(f"the answer is not JSON ({problem}): {excerpt(body)}", observed=excerpt(body))
