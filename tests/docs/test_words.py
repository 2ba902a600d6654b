"""The pages get no longer: a reader's time is the limit, so what is added somewhere is cut somewhere else."""

from pathlib import Path

from tests.docs.checkout import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MOST_WORDS = 37500
"""30,000 is the aim; this is the number reached, and may only go down."""


def words(page: Path) -> int:
    return len(page.read_text().split())


def test_all_pages_together_get_no_longer() -> None:
    assert sum(map(words, PAGES)) <= MOST_WORDS


def test_the_limit_is_the_number_reached() -> None:
    """So that what was cut is not quietly written again."""
    assert sum(map(words, PAGES)) > MOST_WORDS * 0.97
