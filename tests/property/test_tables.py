"""Laws of CSV cells: text is harmless in a spreadsheet, numbers come back to the last bit."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tonsurance_risk.reporting.tables import FORMULA_SIGNS, csv_text

HOSTILE = [
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "=cmd|' /C calc'!A0", "a;=1+1", 'a",=1+1', "\uff1d1+1",
    "x\r\n=1+1", "'=1", '"=1+1"', "a\t=1", "1,=2",
]  # fmt: skip
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")) | st.sampled_from(HOSTILE)


def read(content, delimiter=","):
    """Read as a spreadsheet does that splits at a delimiter."""
    return list(csv.reader(io.StringIO(content, newline=""), delimiter=delimiter))


@given(st.lists(texts, min_size=2, max_size=4))
@example(HOSTILE)
def test_no_cell_of_text_begins_a_formula(cells):
    """Whatever separator the spreadsheet takes, also after spaces; the text is still there."""
    columns = [f"column {number}" for number in range(len(cells))]
    content = csv_text([dict(zip(columns, cells, strict=True))], columns)

    header, row = read(content)
    assert columns == header
    assert [cell.replace("'", "") for cell in cells] == [shown.replace("'", "") for shown in row]
    assert not any(cell.startswith(("\t", "\r", "\n")) for cell in row)
    for delimiter in ",;\t|":
        text = content if delimiter == "," else content.replace("\r", "\n")
        for line in read(text, delimiter)[1:]:
            assert not any(cell.lstrip(" ").startswith(tuple(FORMULA_SIGNS)) for cell in line)


def test_ordinary_text_is_left_alone():
    """Signs within words and after a comma and a space mean nothing."""
    text = "USDC is at -3.2 %, -1 before, a-b = c @ 5; it rests on 5 days"

    assert [["a"], [text]] == read(csv_text([{"a": text}], ["a"]))


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers())
@example(-0.1, -1)
@example(5e-324, 10**30)
def test_numbers_stay_numbers(real, whole):
    """Negative ones too: no apostrophe, no digit lost."""
    [_, row] = read(csv_text([{"a": real, "b": whole}], ["a", "b"]))

    assert repr(real) == repr(float(row[0]))
    assert whole == int(row[1])


def test_what_json_does_not_have_is_refused():
    """Instead of a cell with the name of a class."""
    with pytest.raises(TypeError):
        csv_text([{"a": object()}], ["a"])


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        (True, "True"),
        (False, "False"),
        (["a", "b"], "a b"),
        (["=1", "b"], "'=1 b"),
        ([], ""),
        ("", ""),
    ],
)
def test_what_is_neither_text_nor_number(value, cell):
    """Nothing where there is no value; lists as words."""
    assert f"a\n{cell}\n" == csv_text([{"a": value}], ["a"])
