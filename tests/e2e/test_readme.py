"""The README works as it is written, and the pages about the design quote the source as it is.

Every block of README.md and of the tour after it that a reader types is performed on a copy of the checkout, `make dev`
included, and its output compared with the one shown. Two are left out: the copy stands for the clone, and `make test`
is the command that runs the tests; tests/e2e/test_dev.py covers how `make dev` starts, stops and fails.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app_runtime.testing.processes import free_port
from tests.docs.checkout import ROOT, copied_checkout, reader_environment
from tests.docs.pages import BLOCK, EDITS, Action, PageError, Step, commands_of, steps_of
from tests.docs.performing import Performer, reader

README = ROOT / "README.md"
TOUR = ROOT / "docs/tutorial/accounts-and-jobs.md"
ARCHITECTURE = ROOT / "docs/explanation/architecture.md"
DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
INDEX = ROOT / "docs/decisions/README.md"
PAGES = (README, *sorted((ROOT / "docs").rglob("*.md")))
NOT_PERFORMED = {"make test", "git clone https://git.example.com/groundwork && cd groundwork"}
MOST_WORDS_OF_THE_README = 1200
MOST_WORDS_OF_A_DECISION = 300
PATIENCE = 90.0
"""Seconds that a reader waits for a job to be done. A reader is slower than a test, and so finds it done at once."""

# What differs from run to run in the output that the page shows; the rest must be equal, character by character.
VOLATILE = re.compile(
    r"""
    [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}            # ids
    | \b[0-9a-f]{32}\b                                   # request ids
    | (?<=rt_)[0-9a-f]{32}(?=\.)                         # refresh tokens: the session, and the beginning of the MAC,
    | (?<=\.)[\w-]{4}(?=…)                               # but not the counter between them
    | \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+                # times
    | \b1[789]\d{8}\b
    | \b\d{8}-\d{6}-\d{6}\b
    | \d+\.\d(?=\ s\b)
    | (?<=curl/)[\d.]+
    | (?<=127\.0\.0\.1:)\d{5}\b                          # ports; and the columns move with the length of ours
    | (?<=:8000)\ +
    """,
    re.VERBOSE,
)
LINK = re.compile(r"\]\((?!https?://)(?P<file>[^)#]*)(?:#(?P<anchor>[^)]*))?\)")
HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)
PATH = re.compile(r"`(?P<path>[\w.-]+(?:/[\w.-]+)*\.(?:py|md|toml|lock|sh))`")
GUARD = re.compile(r"# guard: \w+$")
ADR = re.compile(r"\bADR-(\d{4})\b")


def commands_one_by_one(page: Path) -> Iterator[Step]:
    """Yield the page's commands, with their output as a pattern."""
    for step in steps_of(page):
        for command in commands_of(step):
            if command.text not in NOT_PERFORMED:
                yield replace(step, text=f"$ {command.text}\n{VOLATILE.sub('…', command.shown)}\n")


def only_looks(step: Step) -> bool:
    """Whether the command changes nothing, so that it may be repeated."""
    return step.action is Action.RUN and not re.search(r" -d |-X POST", step.text)


def perform(performer: Performer, step: Step) -> None:
    """Do a step; repeat one that changes nothing until its output is as shown."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return performer.do(step)
        except PageError:
            if not only_looks(step) or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


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


def found_in_source(path: str) -> list[Path]:
    """Return the files that a path on a page may mean, relative to the root, a package, docs/* or scripts."""
    places = (
        ROOT,
        *ROOT.glob("packages/*/src"),
        *ROOT.glob("packages/*/src/*"),
        *ROOT.glob("docs/*"),
        ROOT / "scripts",
    )
    return [place / path for place in places if (place / path).is_file()]


def is_there(page: Path, file: str, anchor: str | None) -> bool:
    """Return whether the target of a page's link exists: this file, or the page itself, with this heading if named."""
    target = page.parent / file if file else page
    if anchor is None or not target.is_file():
        return target.exists()
    headings = HEADING.finditer(BLOCK.sub("", target.read_text()))
    return anchor in {re.sub(r"[^\w -]", "", heading["text"].lower()).replace(" ", "-") for heading in headings}


def comparable(text: str) -> str:
    """Return the lines without blanks around them and without the names of their guards, which a page leaves out."""
    return "\n".join(GUARD.sub("", line).strip() for line in text.strip().splitlines())


@pytest.mark.timeout(600)
def test_the_readme_works_as_it_is_written() -> None:
    port = free_port()
    env = reader_environment(APP_HTTP__PORT=str(port))

    with copied_checkout() as copy, reader(copy, env=env, replace={":8000": f":{port}"}) as performer:
        for step in [*commands_one_by_one(README), *commands_one_by_one(TOUR)]:
            perform(performer, step)


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len(README.read_text().split()) <= MOST_WORDS_OF_THE_README


def test_each_picture_is_shown_on_a_page() -> None:
    shown = {name for page in PAGES for name in re.findall(r"images/([\w.-]+)", page.read_text())}

    assert shown == {picture.name for picture in (ROOT / "docs/images").iterdir()}


def test_what_is_not_performed_is_still_on_the_page() -> None:
    written = {command.text for step in steps_of(README) for command in commands_of(step)}

    assert written >= NOT_PERFORMED


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
        "crons.py", "export.py", "factories.py", "handlers.py", "models.py", "payloads.py", "router.py", "schemas.py",
    }  # fmt: skip
    in_several_places = {"uv.lock", "CHANGELOG.md", "requirements.lock", *of_a_feature}
    text = BLOCK.sub("", page.read_text())
    known = {*in_several_places, "packages/db/src/acme_db/models/schema.py"}  # of a renamed clone
    created = {named["path"] for named in EDITS[Action.CREATE].finditer(text)}
    missing = {named["path"] for named in PATH.finditer(text) if not found_in_source(named["path"])}
    generated = {path for path in missing if "/features/pets/" in path}  # by a command on the page

    assert missing <= known | created | generated


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
    assert len(text.split()) <= MOST_WORDS_OF_A_DECISION


def test_a_decision_that_is_cited_is_there() -> None:
    sources = [*ROOT.glob("packages/**/*.py"), *ROOT.glob("scripts/*.py"), *ROOT.glob("migrations/*.py"), *PAGES]
    cited = {number for source in sources for number in ADR.findall(source.read_text())}

    assert cited <= {page.name[:4] for page in DECISIONS}
