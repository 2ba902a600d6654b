"""Write clients of the API below dist/client/: a Python package and, if Node is installed, types for TypeScript.

`make client` does it. Both come from the description of the API (openapi.py); docs/how-to/clients.md uses them.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import openapi

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / "dist/client"
PACKAGE: Final = "app-client"
GENERATOR: Final = ("sh", "scripts/uv.sh", "run", "--quiet", "--isolated", "--only-group", "client")
TYPESCRIPT: Final = "typescript@5.9.3"
NPX: Final = ("npx", "--yes", "--package", "openapi-typescript@7.13.0", "--package", TYPESCRIPT, "--")
NO_NODE: Final = "There is no Node on this machine (no `npx`): the types for TypeScript are left out."


class ClientError(Exception):
    """A generator failed; the message is its output."""


def write_python(document: Path, folder: Path) -> Path:
    """Write the Python package, and return its folder.

    Raises:
        ClientError: with the output of the generator.
    """
    target, config = folder / "python", document.with_name("config.json")
    shutil.rmtree(target, ignore_errors=True)  # so that no files of removed routes stay
    names = {"project_name_override": PACKAGE, "package_name_override": PACKAGE.replace("-", "_")}
    config.write_text(json.dumps(names))
    options = ("--meta", "uv", "--fail-on-warning", "--config", config, "--path", document, "--output-path", target)
    run(*GENERATOR, "openapi-python-client", "generate", *options)
    shutil.rmtree(target / ".ruff_cache", ignore_errors=True)
    return target


def write_typescript(document: Path, folder: Path) -> Path | None:
    """Write the types for TypeScript, and return their file; None where there is no Node.

    Raises:
        ClientError: with the output of the generator.
    """
    if shutil.which(NPX[0]) is None:
        return None
    target = folder / "typescript/api.d.ts"
    target.parent.mkdir(parents=True, exist_ok=True)
    run(*NPX, "openapi-typescript", document, "--output", target)
    return target


def run(*command: str | Path) -> None:
    """Run a generator in the checkout.

    Raises:
        ClientError: with its output, if it fails.
    """
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClientError(f"{done.stdout}{done.stderr}".strip())


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--to", type=Path, default=FOLDER, help="the folder to write to (default: dist/client)")
    folder: Path = parser.parse_args().to.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="client-") as temporary:
        document = Path(temporary, "openapi.json")
        document.write_text(openapi.document())
        try:
            print(f"Python: {write_python(document, folder)}")
            types = write_typescript(document, folder)
        except ClientError as error:
            print(error, file=sys.stderr)
            return 1
    print(f"TypeScript: {types}" if types else NO_NODE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
