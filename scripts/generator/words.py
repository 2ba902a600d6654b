"""The forms of a feature's name: folder, table, class, path, and words in a sentence."""

import keyword
import re
from dataclasses import dataclass
from typing import Final

from generator.errors import Refused

NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
LONGEST_NAME: Final = 40
_IRREGULAR: Final = {
    "children": "child", "cookies": "cookie", "criteria": "criterion", "media": "medium", "movies": "movie",
    "people": "person", "caches": "cache", "women": "woman", "men": "man", "ties": "tie", "pies": "pie",
}  # fmt: skip
# The singular is the plural (series), or ends in s (news): only the caller knows it.
_UNCLEAR: Final = re.compile(r"(?:series|species|news|[^s]ses|zes|ves|oes|ss|us|is)$")
_PLURALS: Final = (("ies", "y"), ("sses", "ss"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("s", ""))


@dataclass(frozen=True, slots=True)
class Words:
    """A feature's name, as it was typed, and the name of one of its things."""

    plural: str
    singular: str

    @property
    def model(self) -> str:
        """The class: `PetTag` of `pet_tags`."""
        return camel(self.singular)

    @property
    def path(self) -> str:
        """The first part of its paths: `pet-tags`."""
        return self.plural.replace("_", "-")

    @property
    def many(self) -> str:
        """In a sentence: `pet tags`."""
        return self.plural.replace("_", " ")

    @property
    def one(self) -> str:
        """In a sentence: `pet tag`."""
        return self.singular.replace("_", " ")

    @property
    def a_one(self) -> str:
        """In a sentence, with its article: `a pet tag`, `an invoice`."""
        return with_article(self.one)


def camel(name: str) -> str:
    """Return `PetTag` for `pet_tag`."""
    return "".join(part.capitalize() for part in name.split("_"))


def with_article(words: str) -> str:
    """Return `an invoice`, `a unit`."""
    return f"{'an' if re.match(r'(?!eu|one|uni|us|ut)[aeiou]', words) else 'a'} {words}"


def words_for(plural: str, singular: str = "") -> Words:
    """Return the forms of a name; `singular` is the name of one of its things, if it was typed.

    Raises:
        Refused: with the reason, if it cannot name a feature.
    """
    for name in (plural, singular or plural):
        if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
            raise Refused(f"{name!r} cannot name a feature: use up to {LONGEST_NAME} of a-z, 0-9 and single `_`")
    words = Words(plural, singular or singular_of(plural))
    for name in (words.plural, words.singular):
        if keyword.iskeyword(name) or keyword.issoftkeyword(name):
            raise Refused(f"{name}: Python uses this word; choose another name, or another singular=…")
    if words.plural == words.singular:
        raise Refused(f"{plural}: many and one of them need two names, as in name=fishes singular=fish")
    return words


def singular_of(plural: str) -> str:
    """Return the singular of a name, by its last word.

    Raises:
        Refused: if the ending does not tell.
    """
    before, joint, last = plural.rpartition("_")
    if last in _IRREGULAR:
        return f"{before}{joint}{_IRREGULAR[last]}"
    for ending, instead in _PLURALS:
        if last.endswith(ending) and not _UNCLEAR.search(last):
            return f"{before}{joint}{last.removesuffix(ending)}{instead}"
    raise Refused(f"{plural}: cannot tell what one of them is called; add it, as in singular=person")
