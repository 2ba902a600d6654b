"""A decision (docs/decisions) is one page of one form, in the index, and there for whoever cites it."""

import re
from pathlib import Path

import pytest

from tests.docs.checkout import ROOT

DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
INDEX = ROOT / "docs/decisions/README.md"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
MOST_WORDS = 300
MOST_LINES = 40
ADR = re.compile(r"\bADR-(\d{4})\b")


def test_every_decision_is_in_the_index_once_under_its_number() -> None:
    listed = re.findall(r"^- \[(\d{4})\]\((\S+)\) (.+?)(?: \(.+\))?$", INDEX.read_text(), re.MULTILINE)

    titles = [page.read_text().splitlines()[0].partition(": ")[2] for page in DECISIONS]
    assert sorted(listed) == [(page.name[:4], page.name, title) for page, title in zip(DECISIONS, titles, strict=True)]


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_decision_is_one_page_that_says_what_was_rejected(page: Path) -> None:
    text = page.read_text()
    lines = text.splitlines()

    headings = [line for line in lines if line.startswith("#")]
    assert re.match(rf"# ADR-{page.name[:4]}: ", headings[0])
    assert headings[1:] == ["## Context", "## Decision", "## Consequences", "## Rejected"]
    assert len(text.split()) <= MOST_WORDS
    assert len(lines) <= MOST_LINES


def test_a_decision_that_is_cited_is_there() -> None:
    sources = [*ROOT.glob("packages/**/*.py"), *ROOT.glob("scripts/*.py"), *ROOT.glob("migrations/*.py"), *PAGES]
    cited = {number for source in sources for number in ADR.findall(source.read_text())}

    assert cited <= {page.name[:4] for page in DECISIONS}
