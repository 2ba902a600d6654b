"""Pages that quote the source, and name its files."""

import re
from pathlib import Path

from tests.docs.checkout import ROOT

PATH = re.compile(r"`(?P<path>[\w.-]+(?:/[\w.-]+)*\.(?:py|md|toml|lock|sh))`")
GUARD = re.compile(r"# guard: \w+$")


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


def comparable(text: str) -> str:
    """Return the lines without blanks around them and without the names of their guards, which a page leaves out."""
    return "\n".join(GUARD.sub("", line).strip() for line in text.strip().splitlines())
