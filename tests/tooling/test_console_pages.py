"""docs/how-to/console.md: its two files are a page, and without the console the rest stays green."""

import re
from collections.abc import Iterator

import pytest

from tests.docs.checkout import ROOT
from tests.tooling.features import ARCHITECTURE, Copy, copy_of_checkout

pytestmark = [pytest.mark.timeout(1200), pytest.mark.slow]

PAGE = (ROOT / "docs/how-to/console.md").read_text()
ASK = """
from app_api.console.found import found_pages
from app_api.console.rendering import open_console
console = open_console(found_pages())
assert "Versions" in [module.link.text for module in console.modules if module.link]
assert console.templates.get_template("versions.html")
"""
SERVED = """
from packages.api.tests.conftest import Browser


async def test_it_is_served_and_linked(signed_in_browser: Browser) -> None:
    page = await signed_in_browser.get("/console/versions")
    assert page.status_code == 200
    assert "talks to" in page.text
    assert 'href="/console/versions"' in (await signed_in_browser.get("/console/account")).text
"""
REMOVE = """
import shutil, sys
from pathlib import Path
for path in [path for pattern in sys.argv[1:] for path in Path().glob(pattern)]:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
"""


@pytest.fixture(scope="module")
def checkout() -> Iterator[Copy]:
    with copy_of_checkout() as copy:
        yield copy


def test_a_page_is_added_by_the_two_files_of_the_guide(checkout: Copy) -> None:
    written = re.findall(r"Create `(packages/\S+)`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert len(written) == 2
    for path, content in written:
        (checkout.root / path).write_text(content)

    (checkout.root / "packages/api/tests/console/test_versions.py").write_text(SERVED)

    checkout.prove("-c", ASK)
    checkout.prove("-m", "pytest", "-q", "packages/api/tests/console")
    checkout.prove("-m", "ruff", "check", "packages/api")
    checkout.prove("-m", "mypy")


def test_without_the_console_the_rest_is_green(checkout: Copy) -> None:
    for line in re.findall(r"^\$ rm (?:-r )?(.+)$", PAGE, re.MULTILINE):
        checkout.prove("-c", REMOVE, *line.split())
    declared = checkout.root / "packages/api/pyproject.toml"
    declared.write_text(re.sub(r' *"jinja2.*\n', "", declared.read_text()))

    checkout.prove("-c", "import app_api.app")
    checkout.prove("-m", "ruff", "check", "packages", "tests")
    checkout.prove("-m", "mypy")
    for target in ("check-contracts", "check-dependencies"):
        checkout.make(target)
    checkout.prove("-m", "pytest", "-q", *ARCHITECTURE)
    checkout.prove("-m", "pytest", "-q", "-n", "2", "packages/api/tests", "-m", "not integration")
