"""Text without secrets, and text that is one line. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

HIDDEN = "***"

# Lengths are bounded so that the time is linear in that of the text, which may come from outside.
_URL_PASSWORD = re.compile(r"(?P<before>://[^\s:/?#@'\"]{0,100}:)[^\s'\"]{1,300}@")
_QUERY_SECRET = re.compile(
    r"(?P<before>[?&][\w-]*(?:password|passwd|secret|token|api_?key|routing_?key)=)[^\s&#'\"]*", re.IGNORECASE
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` with secrets, passwords of URLs, and keys in the query of URLs replaced by ``***``.

    Parameters
    ----------
    text : str
        Anything that leaves the process.
    secrets : iterable of str
        Known values; found as they are, as URLs write them, and as JSON and `repr` do. Empty ones are left out.

    Examples
    --------
    >>> redact("postgresql://risk:p@ss@db.example/risk?sslmode=require")
    'postgresql://risk:***@db.example/risk?sslmode=require'
    >>> redact("the key s3cr3t/7 was refused: GET /x?q=s3cr3t%2F7", ["s3cr3t/7"])
    'the key *** was refused: GET /x?q=***'
    """
    forms = {form for secret in secrets if secret for form in _forms(secret)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, HIDDEN)
    text = _URL_PASSWORD.sub(rf"\g<before>{HIDDEN}@", text)
    return _QUERY_SECRET.sub(rf"\g<before>{HIDDEN}", text)


def _forms(secret: str) -> Iterable[str]:
    written = secret.encode("utf-8", "surrogatepass")
    return (secret, quote(written, safe=""), quote(written), json.dumps(secret)[1:-1], repr(secret)[1:-1])


def one_line(text: str) -> str:
    r"""Return `text` with line breaks and everything else that a terminal would act on escaped.

    Examples
    --------
    >>> one_line("down\n2024-01-01 INFO all is well\x1b[2K")
    'down\\n2024-01-01 INFO all is well\\x1b[2K'
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def redact_values(value: Any, secrets: Iterable[str] = ()) -> Any:
    """Return a JSON value with `redact` applied to every text in it, keys of mappings as well.

    Examples
    --------
    >>> redact_values({"error": ["no entry for s3cr3t"], "n": 1}, ["s3cr3t"])
    {'error': ['no entry for ***'], 'n': 1}
    """
    known = tuple(secrets)
    if isinstance(value, str):
        return redact(value, known)
    if isinstance(value, dict):
        return {redact(str(key), known): redact_values(one, known) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_values(one, known) for one in value]
    return value
