"""A figure of matplotlib as SVG that stands inside an HTML page and takes the colours of the page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from xml.etree import ElementTree  # nosec B405

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = {
    "svg.fonttype": "none",
    "font.size": 10.0,
    "axes.titlesize": 10.0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.facecolor": "#fefefe",
    "legend.framealpha": 0.85,
    "path.simplify_threshold": 0.4,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_OF_THE_PAGE = {
    "#000000": "currentColor",
    "#fefefe": "var(--page)",
    "#0072b2": "var(--chart-blue)",
    "#e69f00": "var(--chart-orange)",
    "#d55e00": "var(--chart-vermilion)",
    "#56b4e9": "var(--chart-sky)",
    "#009e73": "var(--chart-green)",
    "#cc79a7": "var(--chart-purple)",
    "#b0b0b0": "var(--chart-grid)",
    "#cccccc": "var(--chart-grid)",
    "#4c4c4c": "var(--chart-grey)",
    "#666666": "var(--chart-grey)",
}
"""Colours of `tonsurance_risk.plots`, and what the style sheet calls them. Others stay: those of a colour map."""
_COLOUR = re.compile("|".join(_OF_THE_PAGE))
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"(?:url\()?#([\w.-]+)\)?")
FINE_PRINT = "fine-print"
"""The ``gid`` of text that a phone has no room for; on the page, its class."""
_LEFT_OUT = ("metadata", "style")


@contextmanager
def page_style() -> Iterator[None]:
    """Draw as the page wants it, whatever the user's style of matplotlib is."""
    from matplotlib import style

    with style.context(["default", _STYLE]), warnings.catch_warnings():
        # The letters are drawn by the browser, which has fonts for what the measuring one lacks.
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        warnings.filterwarnings("ignore", r"Matplotlib currently does not support .* natively", UserWarning)
        yield


def inline_svg(figure: Figure, name: str, labelled_by: str) -> str:
    """Return a figure as an ``svg`` element for HTML.

    Parameters
    ----------
    figure : Figure
        Drawn inside `page_style`.
    name : str
        Begins every id, so that charts of one page do not share any.
    labelled_by : str
        Id of the element of the page that says in words what is drawn.

    Notes
    -----
    Ids are numbered in their order, text is text in the font of the page, and nothing tells when it was made: the
    same figure gives the same bytes.
    """
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    # Safe: matplotlib wrote it, and escapes what names may hold.
    root = ElementTree.fromstring(written.getvalue())  # noqa: S314 # nosec B314
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in _LEFT_OUT:
                parent.remove(child)
    elements = list(root.iter())
    ids = _new_ids(elements, name)
    for element in elements:
        element.tag = _local(element.tag)
        element.tail = None
        if element.tag != "text":
            element.text = None
        attributes = {_local(key): value for key, value in element.attrib.items()}
        element.attrib.clear()
        if attributes.get("id") == FINE_PRINT:
            element.set("class", FINE_PRINT)
        element.attrib.update(
            {key: text for key, value in attributes.items() if (text := _short(key, value, ids))}
        )
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib.update({"role": "img", "aria-labelledby": labelled_by})
    return ElementTree.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    """Return a name without its namespace: HTML knows those of SVG."""
    return name.rpartition("}")[2]


def _new_ids(elements: list[ElementTree.Element], name: str) -> dict[str, str]:
    """Return new ids of what is referred to, in the order of the drawing."""
    named = {identity for element in elements if (identity := element.get("id"))}
    found = [
        match[1]
        for element in elements
        for value in element.attrib.values()
        if (match := _REFERENCE.fullmatch(value.strip())) or (match := _REFERENCE.search(value))
    ]
    used = dict.fromkeys(identity for identity in found if identity in named)
    return {identity: f"{name}-{number}" for number, identity in enumerate(used)}


def _short(key: str, value: str, ids: dict[str, str]) -> str | None:
    """Return the value of an attribute as the page needs it, None for one that it does not need."""
    if key == "id":
        return ids.get(value)
    if value.startswith("data:"):
        return value
    value = _REFERENCE.sub(lambda match: match[0].replace(match[1], ids.get(match[1], match[1])), value)
    if key == "style":
        value = re.sub(r"font-family: [^;]*;?\s*", "", value)
    if key in ("style", "fill", "stroke"):
        value = _COLOUR.sub(lambda match: _OF_THE_PAGE[match[0]], value)
    return " ".join(_LONG_NUMBER.sub(lambda match: f"{float(match[0]):.2f}", value).split())
