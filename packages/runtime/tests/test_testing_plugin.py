"""The fixtures that every package uses."""

import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.integration


def test_valkey_answers(valkey_url: str) -> None:
    url = urlsplit(valkey_url)

    with socket.create_connection((url.hostname, url.port), timeout=5) as connection:
        connection.sendall(f"AUTH {url.password}\r\nPING\r\nQUIT\r\n".encode())
        answers = connection.makefile().read().splitlines()

    assert answers == ["+OK", "+PONG", "+OK"]


TESTIMONIALS = """
from enum import StrEnum

class Testimonial:
    def __init__(self): ...

class TestimonialState(StrEnum):
    OPEN = "open"

class TestOfBoth:
    def test_it(self): ...
"""


@pytest.mark.timeout(400)  # a run of tests by itself
@pytest.mark.parametrize(
    ("own", "status"), [("def test_it(): ...", 0), ("class TestOwn:\n    def __init__(self): ...", 1)]
)
def test_a_class_that_is_imported_is_no_class_of_tests_because_of_its_name(
    tmp_path: Path, pytestconfig: pytest.Config, own: str, status: int
) -> None:
    """microsoft/Agents-for-python #167: modules that imported `TestClient` had a warning, here an error."""
    (tmp_path / "testimonials.py").write_text(TESTIMONIALS)
    (tmp_path / "test_it.py").write_text(f"from testimonials import *\n\n{own}")
    root = pytestconfig.rootpath

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", root,
         "-c", root / "pyproject.toml", "-o", f"pythonpath={tmp_path}", tmp_path],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip

    assert (run.returncode != 0) is bool(status), run.stdout + run.stderr
    assert "Testimonial" not in run.stdout
