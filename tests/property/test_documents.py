"""Laws of the comparison of documents: whatever is changed is named, and nothing else."""

from __future__ import annotations

import copy
import json

from hypothesis import given
from hypothesis import strategies as st

from tonsurance_risk.core.documents import differences

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)
objects = st.dictionaries(st.text("abc", min_size=1, max_size=3), documents, min_size=1, max_size=4)


def leaves(value, path=""):
    """Yield the path, the holder and the key of everything that holds nothing."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        place = f"{path}[{key}]" if isinstance(value, list) else f"{path}.{key}" if path else key
        if isinstance(one, (dict, list)) and one:
            yield from leaves(one, place)
        else:
            yield place, value, key


@given(objects)
def test_a_document_equals_itself_also_when_it_was_written_and_read(document):
    """Numbers to the last bit."""
    assert [] == list(differences(document, json.loads(json.dumps(document))))


@given(objects, st.data())
def test_one_change_is_one_difference_at_its_place(document, data):
    """With what was there and what is."""
    changed = copy.deepcopy(document)
    path, holder, key = data.draw(st.sampled_from(list(leaves(changed))))
    before = holder[key]
    holder[key] = "another"

    found = [one.to_dict() for one in differences(document, changed)]

    assert ([] if before == "another" else [{"path": path, "old": before, "new": "another"}]) == found


@given(objects, objects)
def test_no_difference_means_the_same_json(one, other):
    """And the other way round, but for the order of keys."""
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)

    assert same == (not list(differences(one, other)))


def test_numbers_of_another_kind_differ():
    """1 is not 1.0, 0.0 not -0.0, true not 1."""
    assert 3 == len(list(differences([1, 0.0, True], [1.0, -0.0, 1])))
