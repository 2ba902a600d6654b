"""The pages get no longer: a reader's time is limited, so an addition to one page needs a cut in another.

A word has a letter or a digit, so bars of tables do not count. Nor do pages of docs/reference that are generated, one
row for each setting or table, and looked up rather than read.
"""

import re

from tests.docs.checkout import ROOT
from tests.docs.pages import BLOCK

GENERATED = {ROOT / "docs/reference/configuration.md", ROOT / "docs/reference/tables.md"}
PAGES = [ROOT / "README.md", *sorted({*(ROOT / "docs").rglob("*.md")} - GENERATED)]
MOST_WORDS = 30_000
"""With the blocks of code, most of which a test performs. The goal is at most 30,000."""
MOST_WORDS_OF_PROSE = 26_400
"""Without the blocks of code, tables included."""


def words(*, code: bool) -> int:
    texts = (page.read_text() for page in PAGES)
    return sum(
        bool(re.search(r"\w", word)) for text in texts for word in (text if code else BLOCK.sub("", text)).split()
    )


def test_all_pages_together_get_no_longer() -> None:
    assert words(code=True) <= MOST_WORDS


def test_the_prose_of_all_pages_gets_no_longer() -> None:
    assert words(code=False) <= MOST_WORDS_OF_PROSE


def test_the_limit_is_the_number_reached() -> None:
    """A limit far above the count would let the pages grow again unnoticed."""
    assert words(code=True) > MOST_WORDS * 0.95
