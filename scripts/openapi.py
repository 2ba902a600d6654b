"""Write packages/api/openapi.json, the description of the API, for reviews and for `make client` (ADR-0056).

`make openapi` writes it, `make check-openapi` compares: a change of the API is a change of this file.
"""

import argparse
import json
import sys
from difflib import unified_diff
from pathlib import Path
from typing import Any, Final

from app_api.app import create_app
from app_api.settings import ApiSettings
from app_auth.keys import RINGS, new_key
from app_db.types import utcnow

ROOT: Final = Path(__file__).resolve().parents[1]
FILE: Final = Path("packages/api/openapi.json")
NO_VERSION: Final = "0"
"""The version in the file: that of the package would change with each release."""
LONGEST_DIFF: Final = 60
"""Lines of a difference that are shown."""


def settings() -> ApiSettings:
    """Return settings with defaults for all that the description depends on."""
    rings = dict.fromkeys(RINGS, (new_key(utcnow().date()),))
    return ApiSettings.model_validate(
        {
            "env": "test",
            "database": {"url": "postgresql://localhost/described"},
            "redis": {"url": "redis://localhost"},
            "auth": rings,
        }
    )


def document(*, version: str | None = None) -> str:
    """Return the description, with the declared version unless one is given.

    Its paths and schemas are sorted, so that moved code is no change.
    """
    described: dict[str, Any] = create_app(settings()).openapi()  # Any: JSON
    if version is not None:
        described["info"]["version"] = version
    described["paths"] = dict(sorted(described["paths"].items()))
    described["components"]["schemas"] = dict(sorted(described["components"]["schemas"].items()))
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def difference(committed: str, current: str) -> str:
    """Return the reason in one line, and the changes below it."""
    lines = list(unified_diff(committed.splitlines(), current.splitlines(), "committed", "now", lineterm="", n=2))
    more = [f"… and {len(lines) - LONGEST_DIFF} more lines"] if len(lines) > LONGEST_DIFF else []
    reason = f"{FILE} is not what the API says of itself: type `make openapi`, and read the diff"
    return "\n".join([reason, "", *lines[:LONGEST_DIFF], *more])


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the file is not fresh")
    parser.add_argument("--root", type=Path, default=ROOT, help="where the file is (default: this checkout)")
    arguments = parser.parse_args()
    path, current = arguments.root / FILE, document(version=NO_VERSION)
    if not arguments.check:
        path.write_text(current)
        print(f"{FILE}: {current.count('"operationId"')} operations")
        return 0
    committed = path.read_text() if path.exists() else ""
    if committed == current:
        return 0
    print(difference(committed, current))
    return 1


if __name__ == "__main__":
    sys.exit(main())
