"""`make screenshots` makes what README and docs show."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.checkout import ROOT

from .screenshots import IMAGES, MOST_BYTES, PICTURES

SHOWN = re.compile(r"images/(console-[\w.-]+)")


def test_the_pictures_of_the_pages_are_made_by_a_program() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]

    shown = {name for page in pages for name in SHOWN.findall(page.read_text())}

    assert shown == {picture.name for picture in PICTURES} == {path.name for path in IMAGES.glob("console-*")}
    assert all((IMAGES / name).stat().st_size <= MOST_BYTES for name in shown)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_they_can_be_taken_at_any_time(tmp_path: Path) -> None:
    take = [sys.executable, "-m", "tests.e2e.console.screenshots", "--folder", str(tmp_path)]

    subprocess.run(take, cwd=ROOT, check=True, capture_output=True)

    assert {path.name for path in tmp_path.iterdir()} == {picture.name for picture in PICTURES}
    for path in tmp_path.iterdir():
        assert path.read_bytes()[8:12] == b"WEBP"
