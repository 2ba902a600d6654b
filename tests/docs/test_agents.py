"""AGENTS.md and llms.txt name commands, paths and pages that exist."""

import re
from pathlib import Path

import pytest

from tests.docs.checkout import ROOT

AGENTS = ROOT / "AGENTS.md"
LLMS = ROOT / "llms.txt"
TARGET = re.compile(r"`make ([a-z][a-z0-9-]+)")
LINK = re.compile(r"\]\((?!https?://)([^)#]+)")
SPAN = re.compile(r"`([^`]+)`")
HAS_SUFFIX = re.compile(r"^[\w.-]+(/[\w.-]+)*\.(py|md|toml|txt|yml|lock|sh)$")
SHORT = ("packages/*", "packages/*/src", "packages/*/src/*", "migrations", "docs", ".")
"""The folders that a path may be relative to: the table of places leaves out the folder of a package."""
MOST_WORDS = 1200


def paths_of(page: Path) -> set[str]:
    """Return the files and folders that are named in code spans, without those that hold a placeholder."""
    words = {word.rstrip(",;") for span in SPAN.findall(page.read_text()) for word in span.split()}
    return {word for word in words if HAS_SUFFIX.match(word) or ("/" in word and re.fullmatch(r"[\w.*/-]+", word))}


def is_there(path: str) -> bool:
    """Return whether a path exists, from the root or from the inside of a package."""
    return any(next(ROOT.glob(f"{place}/{path}"), None) for place in SHORT)


def test_the_page_for_editors_is_one_page() -> None:
    assert len(AGENTS.read_text().split()) <= MOST_WORDS


@pytest.mark.parametrize("page", [AGENTS, LLMS], ids=lambda page: page.name)
def test_the_commands_that_it_names_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE))

    named = set(TARGET.findall(page.read_text()))

    assert named
    assert named <= targets


@pytest.mark.parametrize("page", [AGENTS, LLMS], ids=lambda page: page.name)
def test_the_pages_that_it_links_to_exist(page: Path) -> None:
    links = LINK.findall(page.read_text())

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_paths_that_agents_names_exist() -> None:
    assert [path for path in sorted(paths_of(AGENTS)) if not is_there(path.rstrip("/"))] == []


def test_each_rule_of_agents_names_what_enforces_it() -> None:
    rules = AGENTS.read_text().partition("\n## Rules")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!rule|---)(.+) \| (.+) \|$", rules, re.MULTILINE)

    assert rows
    assert [rule for rule, check in rows if not SPAN.search(check)] == []


def test_llms_lists_every_page_of_the_four_kinds() -> None:
    listed = {(ROOT / link).resolve() for link in LINK.findall(LLMS.read_text())}
    kinds = ("tutorial", "how-to", "reference", "explanation")

    assert {page.resolve() for kind in kinds for page in (ROOT / "docs" / kind).glob("*.md")} <= listed
