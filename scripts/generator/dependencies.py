"""Dependencies that a package declares and imports nowhere, as deptry finds them."""

import json
import re
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

_DECLARED: Final = re.compile(r'^  "([\w.-]+).*",?\n', re.MULTILINE)


def unused(package: Path) -> list[str]:
    """Return the names of the declared dependencies of a package that none of its modules imports."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        command = [sys.executable, "-m", "deptry", "src", "--json-output", str(path)]
        subprocess.run(command, cwd=package, capture_output=True, check=False)  # it fails if it finds anything
        found = json.loads(path.read_text())
    return [each["module"] for each in found if each["error"]["code"] == "DEP002"]


def drop(package: Path, names: Collection[str]) -> None:
    """Take the lines of these dependencies out of the pyproject.toml of a package."""
    path = package / "pyproject.toml"
    path.write_text(_DECLARED.sub(lambda line: "" if line[1] in names else line[0], path.read_text()))
