"""Documents in JSON types compared: every place in which two of them differ. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs


@attrs.frozen
class Difference:
    """A place in which two documents differ.

    Parameters
    ----------
    path : str
        ``var_analysis.var_95.value`` or ``depeg_events[3].start``.
    old, new : JSON value
        What is there.
    only_in : {"", "old", "new"}
        Where it is, if only one document has the place.
    """

    path: str
    old: Any = None
    new: Any = None
    only_in: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the path and what is there; where nothing is, the key is missing."""
        shown = [name for name in ("old", "new") if self.only_in in ("", name)]
        return {"path": self.path} | {name: getattr(self, name) for name in shown}


def differences(old: Any, new: Any, path: str = "") -> Iterator[Difference]:
    """Yield the places in which two documents differ, to the last bit of every number, in the order of `old`.

    Examples
    --------
    >>> found = differences({"a": [1, 0.0], "b": None}, {"a": [1, -0.0], "c": 2})
    >>> [one.to_dict() for one in found]
    [{'path': 'a[1]', 'old': 0.0, 'new': -0.0}, {'path': 'b', 'old': None}, {'path': 'c', 'new': 2}]
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            place = f"{path}.{key}" if path else str(key)
            if key not in new:
                yield Difference(place, old=old[key], only_in="old")
            elif key not in old:
                yield Difference(place, new=new[key], only_in="new")
            else:
                yield from differences(old[key], new[key], place)
    elif isinstance(old, list) and isinstance(new, list):
        for number, (one, other) in enumerate(zip(old, new, strict=False)):
            yield from differences(one, other, f"{path}[{number}]")
        both = min(len(old), len(new))
        for number, one in enumerate(old[both:], both):
            yield Difference(f"{path}[{number}]", old=one, only_in="old")
        for number, one in enumerate(new[both:], both):
            yield Difference(f"{path}[{number}]", new=one, only_in="new")
    elif json.dumps(old) != json.dumps(new):
        yield Difference(path, old=old, new=new)
