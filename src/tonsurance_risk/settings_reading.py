"""Reads settings: the file, then the environment, then the command line."""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import unquote

import attrs
import cattrs
from cattrs.cols import homogenous_tuple_structure_factory
from cattrs.errors import ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn

from tonsurance_risk.errors import SettingsError
from tonsurance_risk.redaction import one_line, redact, redact_values
from tonsurance_risk.settings import (
    CONFIG_VARIABLE,
    DEFAULT_FILE,
    SECRET_VARIABLES,
    VARIABLES,
    Settings,
    SinkSettings,
)

_MOST_BYTES = 100_000
_LONGEST_LINE = 1_000
"""Bytes; `tomllib` needs memory by the square of the parts of a dotted key."""
_SHOWN = 60
_SECRET_NAME = re.compile(r"secret|passw|api_?key|routing_?key|private_?key|(access|auth)_?token", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"://[^:/?#@]*:(?P<password>.+)@", re.DOTALL)
_T = TypeVar("_T")


def load_settings(
    file: Path | None = None,
    *,
    environment: Mapping[str, str],
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """Return the settings that count.

    Parameters
    ----------
    file : Path, optional
        A TOML file; when not given the one that ``TONSURANCE_RISK_CONFIG`` names, or ``tonsurance_risk.toml``
        where it is there, or none.
    environment : mapping of str
        Its variables count more than the file; empty ones are as if they were not set.
    overrides : mapping of value by key, optional
        What the command line gave, ``{"store.url": ...}``; counts most. None stands for not given.

    Raises
    ------
    SettingsError
        If the file is missing, is not TOML, or holds a secret; if a key is unknown or a value cannot be used. The
        message lists all of them, each with its place.

    Examples
    --------
    >>> settings = load_settings(
    ...     environment={"TONSURANCE_RISK_OUT": "daily", "TONSURANCE_RISK_VAULT": "book.json"},
    ...     overrides={"vault": "other.json"},
    ... )
    >>> settings.seed, str(settings.out), str(settings.vault)
    (0, 'daily', 'other.json')
    """
    found = settings_file(file, environment)
    content: dict[str, Any] = {}
    if found is not None:
        content = _toml(found, known_secrets(environment))
        _structured(content, lambda _key: str(found))
    origins: dict[str, str] = {}
    for variable in set_variables(environment):
        _put(content, VARIABLES[variable], environment[variable])
        origins[VARIABLES[variable]] = variable
    for key, value in (overrides or {}).items():
        if value is not None:
            _put(content, key, value)
            origins[key] = "command line"
    return _structured(content, lambda key: origins.get(key, "settings"))


def settings_file(given: Path | None, environment: Mapping[str, str]) -> Path | None:
    """Return the file that `load_settings` reads, or None; a `SettingsError` where one is named and missing."""
    named = given or (Path(environment[CONFIG_VARIABLE]) if environment.get(CONFIG_VARIABLE) else None)
    if named is None:
        return DEFAULT_FILE if DEFAULT_FILE.is_file() else None
    if not named.is_file():
        raise SettingsError(f"there is no settings file {str(named)!r}", observed=str(named))
    return named


def set_variables(environment: Mapping[str, str]) -> list[str]:
    """Return the variables of `VARIABLES` that are set."""
    return [variable for variable in VARIABLES if environment.get(variable)]


def known_secrets(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the secrets that the environment holds, for redaction: keys, and passwords in URLs of stores."""
    values = [environment[name] for name in SECRET_VARIABLES if environment.get(name)]
    found = _URL_PASSWORD.search(environment.get("TONSURANCE_RISK_STORE_URL", ""))
    if found is not None:
        values += [found["password"], unquote(found["password"])]
    return tuple(dict.fromkeys(values))


def settings_document(settings: Settings, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return settings in JSON types, without secrets; of those only whether they are set.

    Examples
    --------
    >>> found = {"TONSURANCE_RISK_STORE_URL": "postgresql+psycopg://risk:s3cr3t@db.example/risk"}
    >>> document = settings_document(load_settings(environment=found), found)
    >>> document["settings"]["store"]
    {'url': 'postgresql+psycopg://risk:***@db.example/risk'}
    >>> document["secrets"]["TONSURANCE_RISK_WEBHOOK_SECRET"]
    'not set'
    """
    values = attrs.asdict(settings, value_serializer=lambda _owner, _field, value: _as_text(value))
    return {
        "settings": redact_values(values, known_secrets(environment)),
        "from_environment": [VARIABLES[variable] for variable in set_variables(environment)],
        "secrets": {name: "set" if environment.get(name) else "not set" for name in SECRET_VARIABLES},
    }


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, (Path, date)) else value


def _toml(file: Path, secrets: tuple[str, ...]) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            text = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from error
    if len(text) > _MOST_BYTES or any(len(line) > _LONGEST_LINE for line in text.splitlines()):
        raise SettingsError(
            f"{file} is no settings file: one has at most {_MOST_BYTES:,} bytes and {_LONGEST_LINE:,} in a line"
        )
    try:
        content = tomllib.loads(text.decode("utf-8"))
        place = next(_places_of_secrets(content, secrets), None)
    except RecursionError:
        raise SettingsError(f"{file} is nested too deeply; that is no settings file") from None
    except ValueError as error:
        raise SettingsError(f"{file} is not TOML: {one_line(redact(str(error), secrets))}") from error
    if place is not None:
        raise SettingsError(
            f"{file}: {place} holds a secret, which a file must not; secrets come from the environment alone: "
            f"{', '.join(SECRET_VARIABLES)}, and TONSURANCE_RISK_STORE_URL for a URL with a password",
            observed=place,
        )
    return content


def _places_of_secrets(content: object, secrets: tuple[str, ...]) -> Iterator[str]:
    for place, name, value in _leaves(content, ""):
        if _SECRET_NAME.search(name) or (isinstance(value, str) and redact(value, secrets) != value):
            yield place


def _leaves(value: object, place: str, name: str = "") -> Iterator[tuple[str, str, object]]:
    yield place, name, value
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _leaves(one, f"{place}.{key}".lstrip("."), key)
    if isinstance(value, list):
        for number, one in enumerate(value):
            yield from _leaves(one, f"{place}[{number}]")


def _put(content: dict[str, Any], key: str, value: object) -> None:
    *tables, last = key.split(".")
    for table in tables:
        content = content.setdefault(table, {})
    content[last] = str(value) if isinstance(value, Path) else value


def _structured(content: Mapping[str, Any], origin: Callable[[str], str]) -> Settings:
    try:
        return _converter().structure(content, Settings)
    except cattrs.BaseValidationError as error:
        lines = []
        for line in cattrs.transform_error(error, path="", format_exception=_explained):
            message, _, path = line.rpartition(" @ ")
            place = path.lstrip(".")
            lines.append(f"{origin(place)}: {place}{': ' if place else ''}{message}")
        raise SettingsError("\n".join(lines)) from None


class _MismatchError(ValueError):
    """A value of another type than the setting has."""

    def __init__(self, accepted: str, found: object) -> None:
        super().__init__(f"must be {accepted}, found {_shown(found)}")


_KINDS = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "a table",
    list: "a list",
}


def _shown(found: object) -> str:
    kind = _KINDS.get(type(found), type(found).__name__)
    if isinstance(found, (dict, list)):
        return kind
    value = one_line(redact(repr(found))[:_SHOWN])
    return value if isinstance(found, bool) else f"the {kind.removeprefix('a ')} {value}"


def _explained(error: BaseException, _type: type | None) -> str:
    if isinstance(error, ForbiddenExtraKeysError):
        known = [field.name for field in attrs.fields(error.cl)]
        return "; ".join(_unknown(name, known, "setting") for name in sorted(error.extra_fields))
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return one_line(str(error))


def _unknown(name: str, known: Iterable[str], what: str) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{one_line(name)!r} is no {what}{hint}; accepted: {', '.join(names)}"


def _converter() -> cattrs.Converter:
    """Return a converter that guesses nothing: "1e3" is no number, yes is no truth."""
    converter = cattrs.Converter(forbid_extra_keys=True)

    def checked(kind: type[_T], accepted: str, fits: Callable[[Any], bool]) -> None:
        def hook(value: Any, _type: object) -> _T:
            if not fits(value):
                raise _MismatchError(accepted, value)
            return kind(value) if kind in (float, Path) else value  # type: ignore[call-arg]

        converter.register_structure_hook(kind, hook)

    checked(str, "text", lambda value: isinstance(value, str) and "\0" not in value)
    checked(bool, "true or false", lambda value: isinstance(value, bool))
    checked(int, "a whole number such as 1000", _is_int)
    checked(float, "a number such as 36.5", lambda value: _is_int(value) or _is_finite(value))
    checked(date, "a date such as 2026-01-31, without quotes", lambda value: type(value) is date)
    checked(Path, "a path", lambda value: isinstance(value, str) and value != "" and "\0" not in value)
    converter.register_structure_hook_func(lambda wanted: _origin(wanted) is Literal, _choice)
    converter.register_structure_hook_func(
        lambda wanted: wanted == SinkSettings, lambda value, _type: _sink(value, converter)
    )

    def table(wanted: Any) -> Callable[[Any, Any], Any]:
        return _only(dict, "a table", make_dict_structure_fn(wanted, converter, _cattrs_forbid_extra_keys=True))

    def rows(wanted: Any) -> Callable[[Any, Any], Any]:
        return _only(list, "a list", homogenous_tuple_structure_factory(wanted, converter))

    converter.register_structure_hook_factory(attrs.has, table)
    converter.register_structure_hook_factory(lambda wanted: _origin(wanted) is tuple, rows)
    return converter


def _origin(wanted: Any) -> Any:
    return get_origin(wanted)


def _only(kind: type, accepted: str, structure: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def hook(value: Any, wanted: Any) -> Any:
        if not isinstance(value, kind):
            raise _MismatchError(accepted, value)
        return structure(value, wanted)

    return hook


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _choice(value: Any, wanted: Any) -> Any:
    choices = get_args(wanted)
    if not isinstance(value, str):
        raise _MismatchError(f"one of {', '.join(choices)}", value)
    if value not in choices:
        raise ValueError(_unknown(value, choices, "choice"))
    return value


def _sink(value: Any, converter: cattrs.Converter) -> Any:
    kinds = {get_args(get_type_hints(one)["kind"])[0]: one for one in get_args(SinkSettings)}
    if not isinstance(value, dict):
        raise _MismatchError("a table", value)
    kind = value.get("kind")
    if kind not in kinds:
        raise ValueError(f"kind must be one of {', '.join(kinds)}, found {_shown(kind)}")
    return converter.structure(value, kinds[kind])
