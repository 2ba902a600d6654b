"""Copy the pages of the site to dist/pages (`make docs`), in the same folders, so that their links still work.

Other files that a page links to are copied too. A link to a folder becomes its text: a site lists no folders.
"""

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "dist/pages"
SOURCES = ("*.md", "docs/**/*.md", "packages/*/README.md", "migrations/README.md", "bench/README.md")
PICTURES = "docs/images/*"
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?![a-z]+:|#)(?P<file>[^)#\s]+)(?P<anchor>#[^)]*)?\)")
FENCE = re.compile(r"^( *```\w+) .*$", re.MULTILINE)
"""The words after the language are for the tests that perform a page."""


class SiteError(Exception):
    """A page that cannot be part of the site; the message says where and why."""


def sources() -> list[Path]:
    """Return the pages of the site."""
    return sorted({page for pattern in SOURCES for page in ROOT.glob(pattern)})


def gathered(page: Path, text: str, pages: list[Path]) -> tuple[str, set[Path]]:
    """Return the text of a page as the site has it, and the other files to copy.

    Raises:
        SiteError: at a link that leads nowhere.
    """
    along: set[Path] = set()

    def link(found: re.Match[str]) -> str:
        target = (page.parent / found["file"]).resolve()
        if not target.exists():
            raise SiteError(f"{page.relative_to(ROOT)}: {found['file']} is not there")
        if target.is_dir():
            return found["text"]
        if target not in pages:
            along.add(target)
        return found[0]

    return FENCE.sub(r"\1", LINK.sub(link, text)), along


def main() -> None:
    """Write dist/pages anew."""
    shutil.rmtree(PAGES, ignore_errors=True)
    pages = sources()
    along = set(ROOT.glob(PICTURES))
    for page in pages:
        text, more = gathered(page, page.read_text(), pages)
        along |= more
        place = PAGES / page.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    for file in along:
        place = PAGES / file.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, place)


if __name__ == "__main__":
    try:
        main()
    except SiteError as error:
        sys.exit(str(error))
