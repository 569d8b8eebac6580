"""For the pages of the reference: a default value of each parameter, also where several share a description.

Griffe gives all parameters of ``threshold, recovery : float`` the default of the first one.
"""

from __future__ import annotations

from typing import Any

import griffe


class Defaults(griffe.Extension):
    """Takes every default from the signature."""

    def on_package(self, *, pkg: griffe.Module, **_rest: Any) -> None:
        """Correct the whole package, once it is loaded."""
        for member in _members(pkg):
            known = getattr(member, "parameters", ())
            for section in member.docstring.parsed if member.docstring else ():
                if section.kind is griffe.DocstringSectionKind.parameters:
                    for described in section.value:
                        name = described.name.lstrip("*")
                        described.value = known[name].default if name in known else None


def _members(place: griffe.Object) -> list[griffe.Object]:
    own = [member for member in place.members.values() if not member.is_alias]
    return own + [inner for member in own for inner in _members(member)]
