"""The glossary names modules and classes that exist."""

import pkgutil
import re

import pytest

from tests.docs.checkout import ROOT

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs/reference/glossary.md").read_text().splitlines()
    if line.startswith("|") and not line.startswith(("| term", "| ---"))
]


def test_each_term_has_a_sentence_and_a_name_in_each_other_system() -> None:
    assert len(ROWS) > 30
    assert {len(row) for row in ROWS} == {7}
    assert all(all(row) for row in ROWS)


def test_each_term_is_there_once() -> None:
    terms = [row[0] for row in ROWS]

    assert sorted(set(terms)) == sorted(terms)


@pytest.mark.parametrize(("term", "code"), [(row[0], row[2]) for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_a_term_is_in_the_code_exists(term: str, code: str) -> None:
    names = re.findall(r"`(app_\w+(?:\.\w+)+)`", code)

    assert names, f"{term} says nowhere where it is"
    for name in names:
        pkgutil.resolve_name(name)
