"""Every public name has its page, and the pages that are made from the program are those of this program."""

from __future__ import annotations

import pydoc
import re
import runpy
from pathlib import Path

import pytest
import typer

import tonsurance_risk as tr
from tonsurance_risk import cli, ports, testing

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SUBMODULES = {"errors", "plots", "sources", "storage"}


def public_names() -> set[str]:
    """Return the full names of everything that is promised, but errors, which have a page of their own."""
    modules = {
        "plots": tr.plots, "ports": ports, "sources": tr.sources, "storage": tr.storage, "testing": testing
    }  # fmt: skip
    names = [
        name
        for name in tr.__all__
        if name not in SUBMODULES and getattr(getattr(tr, name), "__module__", "") != tr.errors.__name__
    ]
    names += [f"{place}.{name}" for place, module in modules.items() for name in module.__all__]
    return {f"tonsurance_risk.{name}" for name in names}


def test_every_public_name_has_a_page():
    """Once, in docs/reference/api."""
    pages = [path.read_text() for path in sorted((DOCS / "reference" / "api").glob("*.md"))]
    listed = [name for page in pages for name in re.findall(r"^::: (\S+)$", page, re.MULTILINE)]
    missing = public_names() - set(listed)

    assert set() == missing, f"add ::: {' and ::: '.join(sorted(missing))} to a page of docs/reference/api"
    assert len(listed) == len(set(listed)), "a name stands on two pages"
    assert set() == set(listed) - public_names(), "a page has a name that is not public"


def test_every_error_has_its_page():
    """All in one, with what to do about each that is raised, or the word that it is only a base."""
    page = (DOCS / "reference" / "errors.md").read_text()
    errors = {name for name, found in vars(tr.errors).items() if isinstance(found, type) and "Error" in name}

    assert "::: tonsurance_risk.errors\n" in page
    assert set() == {name for name in errors if f"`{name}`" not in page}


@pytest.mark.parametrize(
    "name",
    [
        "reference/command-line.md",
        "reference/faults.md",
        "reference/api/index.md",
        "explanation/scenarios.md",
    ],
)
def test_the_page_is_that_of_the_program(name):
    """Written by docs/pages.py."""
    made = runpy.run_path(str(DOCS / "pages.py"))["PAGES"][name]()

    assert made == (DOCS / name).read_text(encoding="utf-8"), (
        "run `python docs/pages.py` and commit what it writes"
    )


def test_every_command_is_on_the_page():
    """With a mark where its options go."""
    commands = set(typer.main.get_command(cli.app).commands)
    marked = re.findall(r"<!-- options: ([\w-]+) -->", (DOCS / "reference" / "command-line.md").read_text())
    missing = commands - set(marked)

    assert set() == missing, (
        f"write <!-- options: NAME --> and <!-- end --> for {sorted(missing)} into docs/reference/command-line.md, "
        "then run `python docs/pages.py`"
    )
    assert sorted(marked) == sorted(commands)


def test_every_page_is_in_the_navigation():
    """Pages that nobody finds."""
    navigation = (ROOT / "mkdocs.yml").read_text()
    lost = [
        path.relative_to(DOCS).as_posix()
        for path in DOCS.rglob("*.md")
        if f": {path.relative_to(DOCS).as_posix()}\n" not in navigation
    ]

    assert [] == lost, "add them to nav in mkdocs.yml"


def test_what_documents_and_examples_import_is_promised():
    """Names of modules that are public as a whole, or listed in the deprecation policy."""
    whole = "|".join(["errors", "plots", "ports", "sources", "storage", "testing"])
    places = [*sorted((ROOT / "examples").glob("*.py")), *sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md"))]
    imported = {
        f"tonsurance_risk.{module}.{name}"
        for place in places
        for module, names in re.findall(
            rf"^from tonsurance_risk\.(?!(?:{whole}) )([\w.]+) import ([\w, ]+)$", place.read_text(), re.MULTILINE
        )
        for name in names.split(", ")
    }
    policy = (DOCS / "deprecation.md").read_text()
    promised = re.findall(r"`(tonsurance_risk\.\w+\.[\w.]+)`", policy)

    assert imported, "nothing was found: the expression is wrong"
    assert set() == imported - set(promised), "promise them in docs/deprecation.md, or import what is public"
    assert all(pydoc.locate(name) for name in promised)
