"""Write the pages of the reference that are made from the program and its tests.

Usage: python docs/pages.py
"""

from __future__ import annotations

import inspect
import math
import pydoc
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import tonsurance_risk as tr
from tonsurance_risk import cli

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "tests"))

from faults import FAULTS, NOT_HERE, fault_tests  # noqa: E402

COMMAND_LINE = "reference/command-line.md"
SCENARIOS = "explanation/scenarios.md"
API = "reference/api"
CONSTANTS = {
    "tonsurance_risk.STABLECOINS": "The 14 stablecoins that the library knows.",
    "tonsurance_risk.__version__": "The version of the library.",
    "tonsurance_risk.ports.JobEnd": "How a run of a job can end.",
    "tonsurance_risk.ports.LONGEST_KEY": "The most characters of the key of an alert.",
}
MADE = "<!-- Made by docs/pages.py: change the program or its tests, then run it again. -->\n"

PROMISES = (
    "# Faults and promises\n\n"
    + MADE
    + """
What goes wrong in practice, and the tests that show what happens then. Behind every row are the same promises:

1. **Clear.** A failure ends in one error of `tonsurance_risk.errors` that names what, where, and what is accepted.
2. **Nothing lost.** Input that cannot be used is kept and counted; a stored price that changes leaves a revision.
3. **All or nothing.** What is stored or written is there as a whole or not at all.
4. **Again is safe.** A run that is repeated gives the same rows and report, and says nothing twice.
5. **Isolated.** One asset, source or receiver that fails stops no other.
6. **Loud.** Data that are old, few or strange are seen in the report, an exit code or an alert.
7. **Nothing invented.** Gaps stay gaps; what cannot be computed is no number.
8. **Bounded.** Time, memory, retries and requests have limits.
9. **Secret.** No key is in a log, error, report, recording or database.
10. **The same answer.** The same data, version and seed give the same bits
    on one type of processor and library build.

"""
)


def command_line_page() -> str:
    """Return the page of the command line, with what the program says of each command between its marks."""
    root = typer.main.get_command(cli.app)

    def of_program(found: re.Match[str]) -> str:
        return f"{found[1]}\n{''.join(_options(root.commands[found[2]], found[2]))}\n<!-- end -->"

    page = (DOCS / COMMAND_LINE).read_text(encoding="utf-8")
    return re.sub(r"(<!-- options: ([\w-]+) -->\n).*?<!-- end -->", of_program, page, flags=re.DOTALL)


def _options(command: Any, name: str) -> Iterator[str]:
    """Yield a table for a command, or one for each command of a group."""
    for sub, child in sorted(getattr(command, "commands", {}).items()):
        yield f"**`tonsurance-risk {name} {sub}`**\n\n"
        yield from _options(child, f"{name} {sub}")
        yield "\n"
    if hasattr(command, "commands"):
        return
    yield "| option | meaning | default |\n|---|---|---|\n"
    for one in command.params:
        words, default = _meaning(one)
        yield f"| {_spelling(one)} | {words} | {default} |\n"


def _spelling(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`"
    return ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))


def _meaning(parameter: Any) -> tuple[str, str]:
    """Return help and default; of an option that replaces a setting, the help names the default."""
    text = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
    words = re.sub(r" *\[default: (.*?)\]", "", text)
    if parameter.required:
        return words, "required"
    if named := re.search(r"\[default: (.*?)\]", text):
        return words, f"`{named[1]}`"
    if parameter.secondary_opts:
        return words, f"`{(parameter.opts if parameter.default else parameter.secondary_opts)[0]}`"
    value = getattr(parameter.default, "value", parameter.default)
    return words, "" if value is None or value is False or callable(value) else f"`{value}`"


def faults_page() -> str:
    """Return the page of all rows of the fault table with their tests."""
    tests = fault_tests()
    rows = [row for group in FAULTS.values() for row in group if row not in NOT_HERE]
    shown = sum(any(test.by_default for test in tests.get(row, [])) for row in rows)
    lines = [
        f"{shown} of {len(rows)} rows that the library can meet have a test that runs by default; *slow* ones run "
        "in `.ci/run --full`, or need a server with TimescaleDB.\n"
    ]
    for group, words in FAULTS.items():
        lines.append(f"\n## {group}\n\n| | what goes wrong | tests |\n|---|---|---|\n")
        for row, what in words.items():
            names = [f"({NOT_HERE[row]})"] if row in NOT_HERE else []
            names += [f"`{test.name}`{'' if test.by_default else ' *slow*'}" for test in tests.get(row, [])]
            lines.append(f"| {row} | {what} | {'<br>'.join(dict.fromkeys(names)) or 'none yet'} |\n")
    return PROMISES + "".join(lines)


def scenarios_page() -> str:
    """Return the page of scenarios, with a table of the built-in ones between its marks."""
    scenarios = tr.builtin_scenarios()
    total = math.fsum(one.probability * one.weight for one in scenarios)
    rows = "".join(
        f"| {one.name} | {one.probability:.2f} | {one.weight:.1f} | {one.probability * one.weight / total:.1%} "
        f"| {one.btc_change:+.0%} | {one.correlation_shift:+.1f} | {one.volatility_multiplier:.1f} |\n"
        for one in scenarios
    )
    table = (
        "| | probability | weight | drawn share | `btc_change` | correlation shift | volatility multiplier |\n"
        f"|---|---|---|---|---|---|---|\n{rows}"
    )
    page = (DOCS / SCENARIOS).read_text(encoding="utf-8")
    return re.sub(
        r"(<!-- scenarios -->\n).*?<!-- end -->",
        lambda found: f"{found[1]}\n{table}\n<!-- end -->",
        page,
        flags=re.DOTALL,
    )


def names_page() -> str:
    """Return the page of all public names: a table for each subject, with what each docstring begins with."""
    lines = [
        "# All names by subject\n\n",
        MADE,
        "\nEach name leads to formulas, sources and examples. [Errors](../errors.md) have a page of their own.\n",
    ]
    for page in _pages_of_names():
        text = (DOCS / API / page).read_text(encoding="utf-8")
        title = text.partition("\n")[0].removeprefix("# ")
        lines.append(f"\n## [{title}]({page})\n\n| name | what |\n|---|---|\n")
        for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE):
            short = name.removeprefix("tonsurance_risk.")
            lines.append(f"| [`{short}`]({page}#{name}) | {_summary(name)} |\n")
    return "".join(lines)


def _pages_of_names() -> list[str]:
    """Return the pages of names in the order of the navigation."""
    navigation = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    return [page for page in re.findall(rf": {API}/(\w+\.md)$", navigation, re.MULTILINE) if page != "index.md"]


def _summary(name: str) -> str:
    """Return what the docstring begins with; a constant has none of its own."""
    if name in CONSTANTS:
        return CONSTANTS[name]
    summary = (inspect.getdoc(pydoc.locate(name)) or "").split("\n\n")[0]
    return " ".join(summary.split()).replace("|", "\\|")


PAGES = {
    COMMAND_LINE: command_line_page,
    "reference/faults.md": faults_page,
    SCENARIOS: scenarios_page,
    f"{API}/index.md": names_page,
}


def main() -> None:
    """Write every page."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
