"""`make docs` builds a site of all pages, with search; a link that leads nowhere stops it."""

import re
import subprocess
from pathlib import Path

import pytest
import site_pages

ROOT = Path(__file__).parents[2]
NAVIGATION = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]


@pytest.mark.timeout(600)  # the first run fetches the tool
def test_the_site_is_built_with_every_page_and_search() -> None:
    run = subprocess.run(["make", "--old-file=install", "docs"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout + run.stderr
    site = ROOT / "dist/site"
    pages = {page.relative_to(ROOT).with_suffix(".html").as_posix() for page in site_pages.sources()}
    expected = {page.replace("README.html", "index.html") for page in pages}
    assert {page for page in expected if not (site / page).is_file()} == set()
    assert (site / "search.json").stat().st_size > 100_000


def test_each_page_but_the_decisions_is_in_the_navigation_once() -> None:
    listed = re.findall(r"^ +- (\S+\.md)$", NAVIGATION, re.MULTILINE)

    pages = {page.relative_to(ROOT).as_posix() for page in site_pages.sources()}
    assert sorted(listed) == sorted(page for page in pages if not re.match(r"docs/decisions/\d", page))


def test_a_link_that_leads_nowhere_is_an_error() -> None:
    page = ROOT / "docs/none.md"
    text = "[text](nowhere.md)"

    with pytest.raises(site_pages.SiteError, match=r"docs/none\.md: nowhere\.md is not there"):
        site_pages.gathered(page, text, [])


def test_a_link_to_a_file_takes_it_along_and_one_to_a_folder_does_not() -> None:
    page = ROOT / "docs/none.md"
    text = "[proxy](../deploy/haproxy.cfg), [all](../deploy), [a page](explanation/why.md), [far](https://example.com)"

    result, along = site_pages.gathered(page, text, [ROOT / "docs/explanation/why.md"])

    assert result == text.replace("[all](../deploy)", "all")
    assert along == {ROOT / "deploy/haproxy.cfg"}


def test_what_the_tests_of_a_page_need_of_a_fence_is_left_out() -> None:
    result, _ = site_pages.gathered(ROOT / "docs/none.md", "```console background\n$ make dev\n```\n", [])

    assert result == "```console\n$ make dev\n```\n"
