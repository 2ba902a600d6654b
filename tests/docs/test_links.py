"""What a page links to, names or quotes is there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.checkout import ROOT
from tests.docs.pages import BLOCK, EDITS, Action
from tests.docs.quoting import PATH, comparable, found_in_source

README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs/explanation/architecture.md"
PAGES = (README, *sorted((ROOT / "docs").rglob("*.md")))
MOST_WORDS_OF_THE_README = 1200
LINK = re.compile(r"\]\((?!https?://)(?P<file>[^)#]*)(?:#(?P<anchor>[^)]*))?\)")
HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)


def excerpts_of(page: Path) -> Iterator[tuple[str, str]]:
    """Yield the blocks of code on a page, each with the file that the paragraph before it names."""
    content, end = page.read_text(), 0
    for block in BLOCK.finditer(content):
        paragraph = content[end : block.start()].strip().rpartition("\n\n")[2]
        end = block.end()
        if block["info"].strip() not in {"text", "mermaid"}:
            named = PATH.search(paragraph)
            assert named, f"{page.name}: the paragraph before this block names no file:\n{block['text']}"
            yield named["path"], block["text"]


def is_there(page: Path, file: str, anchor: str | None) -> bool:
    """Return whether the target of a page's link exists: this file, or the page itself, with this heading if named."""
    target = page.parent / file if file else page
    if anchor is None or not target.is_file():
        return target.exists()
    headings = HEADING.finditer(BLOCK.sub("", target.read_text()))
    return anchor in {re.sub(r"[^\w -]", "", heading["text"].lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len(README.read_text().split()) <= MOST_WORDS_OF_THE_README


def test_each_picture_is_shown_on_a_page() -> None:
    shown = {name for page in PAGES for name in re.findall(r"images/([\w.-]+)", page.read_text())}

    assert shown == {picture.name for picture in (ROOT / "docs/images").iterdir()}


@pytest.mark.parametrize(("path", "code"), [*excerpts_of(ARCHITECTURE)])
def test_an_excerpt_of_the_architecture_is_still_in_the_source(path: str, code: str) -> None:
    sources = [comparable(file.read_text()) for file in found_in_source(path)]

    assert any(comparable(code) in source for source in sources), f"not in {path}:\n{code}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page: Path) -> None:
    missing = [link[0] for link in LINK.finditer(page.read_text()) if not is_there(page, link["file"], link["anchor"])]

    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_file_that_a_page_names_is_there(page: Path) -> None:
    of_a_feature = {
        "crons.py", "export.py", "factories.py", "handlers.py", "models.py", "operator_pages.py", "pages.py",
        "payloads.py", "router.py", "schemas.py",
    }  # fmt: skip
    in_several_places = {"uv.lock", "CHANGELOG.md", "requirements.lock", *of_a_feature}
    text = BLOCK.sub("", page.read_text())
    known = {*in_several_places, "packages/db/src/acme_db/models/schema.py"}  # of a renamed clone
    created = {named["path"] for named in EDITS[Action.CREATE].finditer(text)}
    missing = {named["path"] for named in PATH.finditer(text) if not found_in_source(named["path"])}
    generated = {path for path in missing if "/features/pets/" in path}  # by a command on the page

    assert missing <= known | created | generated
