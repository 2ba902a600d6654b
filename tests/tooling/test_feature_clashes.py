"""A feature cannot have a name that its own files use for something else; any other name is accepted."""

import pytest
from generator.checkout import ROOT
from generator.clashes import refuse_clashes
from generator.errors import Refused
from generator.fields import parse
from generator.words import words_for

FIELDS = parse("url:str title:str? tags:list[str]")


@pytest.mark.parametrize(
    ("plural", "name"),
    [
        ("services", "service"),
        ("logs", "log"),
        ("owners", "owner_id"),
        ("slices", "Slice"),
        ("principals", "Principal"),
        ("names", "name"),
        ("filters", "filter"),
    ],
)
def test_a_name_that_the_files_of_a_feature_use_for_something_else_is_refused(plural: str, name: str) -> None:
    """feathersjs/feathers #1616: a service called `model` was written, and had two variables of that name."""
    with pytest.raises(Refused, match=rf"^{name}: the files of a feature use this name") as refused:
        refuse_clashes(ROOT, words_for(plural), FIELDS)

    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("plural", ["bookmarks", "pages", "events", "testimonials", "orders", "messages", "people"])
def test_any_other_name_is_none_of_theirs(plural: str) -> None:
    refuse_clashes(ROOT, words_for(plural), FIELDS)
