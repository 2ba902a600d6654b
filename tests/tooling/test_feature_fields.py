"""The fields and names that `make feature` reads; each refusal is one line."""

import pytest
from generator.checkout import Taken
from generator.errors import Refused
from generator.fields import parse
from generator.kinds import KINDS
from generator.words import Words, singular_of, with_article, words_for

TAKEN = Taken(features={"export"}, tables={"users"}, models={"User"}, paths={"/auth"})


def read(text: str) -> list[tuple[str, str, bool, bool]]:
    return [(field.name, field.python, field.is_optional, field.is_unique) for field in parse(text)]


def test_a_field_has_a_name_a_type_and_may_be_optional() -> None:
    assert read("url:str title:str? tags:list[str] seen:bool price:decimal? at:datetime? on:date? ref:UUID? n:int") == [
        ("url", "str", False, True),
        ("title", "str | None", True, False),
        ("tags", "list[str]", False, False),
        ("seen", "bool", False, False),
        ("price", "Decimal | None", True, False),
        ("at", "datetime | None", True, False),
        ("on", "date | None", True, False),
        ("ref", "UUID | None", True, False),
        ("n", "int", False, False),
    ]


def test_blanks_within_a_field_are_no_end_of_it() -> None:
    assert read(" url : str  tags:list[ str ] ? ") == read("url:str tags:list[str]?")


@pytest.mark.parametrize(
    ("text", "unique"),
    [
        ("url:str title:str", ["url"]),
        ("title:str? url:str", ["url"]),
        ("title:str url:str!", ["url"]),
        ("title:str number:int!", ["number"]),
        ("title:str? number:int", []),
        ("note:text", []),
        ("code:str?!", ["code"]),
        ("code:str!?", ["code"]),
    ],
)
def test_one_field_is_unique_per_owner(text: str, unique: list[str]) -> None:
    assert [field.name for field in parse(text) if field.is_unique] == unique


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "name at least one field"),
        (" ".join(f"f{number}:int" for number in range(13)), "13 fields are too many: begin with up to 12"),
        ("url", "url: write a field as name:type"),
        ("url:", "url:: there is no type without a name; choose of str, text, int"),
        ("url:string", "url:string: there is no type string; choose of str, text, int"),
        ("tags:list[int]", "tags:list[int]: there is no type list[int]"),
        ("url:str??", "url:str??: write `?` or `!` once"),
        ("a:str! b:str!", "one field can be unique per owner"),
        ("seen:bool!", "seen:bool!: `!` goes with str, int, UUID"),
        ("url:str url:int", "url: two fields have this name"),
        ("Url:str", "'Url' cannot name a field"),
        ("_url:str", "'_url' cannot name a field"),
        ("url__x:str", "'url__x' cannot name a field"),
        ("1:str", "'1' cannot name a field"),
        (":str", "'' cannot name a field"),
        (f"{'a' * 41}:str", "cannot name a field: use up to 40"),
        ("id:UUID", "id: each feature has this column already"),
        ("owner_id:UUID", "owner_id: each feature has this column already"),
        ("created_at:datetime", "created_at: each feature has this column already"),
        ("class:str", "class: Python uses this word; choose another, such as class_name"),
        ("type:str", "type: Python uses this word"),
        ("match:str", "match: Python uses this word"),
        ("hash:str", "hash: Python uses this word"),
        ("metadata:str", "metadata: the code around a field uses this word"),
        ("registry:str", "registry: the code around a field uses this word"),
        ("schema:str", "schema: the code around a field uses this word"),
        ("model_name:str", "model_name: the code around a field uses this word"),
        ("session:str", "session: the code around a field uses this word"),
        ("date:date", "date: the code around a field uses this word"),
        ("read:str", "read:str: the schemas use the name read"),
    ],
)
def test_what_cannot_be_a_field_is_refused_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        parse(text)

    assert str(refused.value).startswith(reason) or reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_each_type_is_bounded_on_the_wire_where_it_can_be_large() -> None:
    """A boolean, a day and an id have a fixed length."""
    assert {name for name, kind in KINDS.items() if not kind.bounds} == {"bool", "date", "UUID"}


@pytest.mark.parametrize(
    ("plural", "singular"),
    [
        ("bookmarks", "bookmark"),
        ("categories", "category"),
        ("addresses", "address"),
        ("boxes", "box"),
        ("branches", "branch"),
        ("wishes", "wish"),
        ("views", "view"),
        ("pet_tags", "pet_tag"),
        ("people", "person"),
        ("movies", "movie"),
        ("day_trees", "day_tree"),
    ],
)
def test_one_of_many_is_told_by_the_ending(plural: str, singular: str) -> None:
    assert singular_of(plural) == singular


@pytest.mark.parametrize(
    "plural", ["news", "series", "houses", "statuses", "knives", "heroes", "quizzes", "data", "bus"]
)
def test_where_the_ending_does_not_tell_one_is_asked_for(plural: str) -> None:
    with pytest.raises(Refused, match=rf"^{plural}: cannot tell what one of them is called; add it, as in singular="):
        singular_of(plural)

    assert words_for(plural, "item").singular == "item"


def test_a_name_has_a_form_for_each_place() -> None:
    words = words_for("pet_tags")

    assert (words.model, words.path, words.many, words.a_one) == ("PetTag", "pet-tags", "pet tags", "a pet tag")


@pytest.mark.parametrize(
    ("words", "phrase"),
    [("invoice", "an invoice"), ("unit", "a unit"), ("umbrella", "an umbrella"), ("user", "a user"), ("pet", "a pet")],
)
def test_a_thing_has_its_article(words: str, phrase: str) -> None:
    assert with_article(words) == phrase


@pytest.mark.parametrize(
    ("plural", "singular", "reason"),
    [
        ("Bookmarks", "", "'Bookmarks' cannot name a feature"),
        ("book-marks", "", "'book-marks' cannot name a feature"),
        ("", "", "'' cannot name a feature"),
        ("a" * 41, "b", "cannot name a feature: use up to 40"),
        ("bookmarks", "Book", "'Book' cannot name a feature"),
        ("classes", "", "class: Python uses this word"),
        ("fish", "fish", "fish: many and one of them need two names"),
    ],
)
def test_what_cannot_name_a_feature_is_refused_in_one_line(plural: str, singular: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        words_for(plural, singular)

    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("words", "unique", "reason"),
    [
        (Words("export", "e"), None, "export: there is a feature of this name already"),
        (Words("users", "u"), None, "users: there is a table of this name already"),
        (Words("persons", "user"), None, "User: there is a model of this name already"),
        (Words("auth", "a"), None, "/auth: the API has this path already"),
        (Words("a" * 40, "b"), "c" * 20, "would be longer than 63 bytes"),
    ],
)
def test_a_name_that_is_taken_is_refused(words: Words, unique: str | None, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        TAKEN.check(words, unique=unique)
