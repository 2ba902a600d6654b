"""The stop of a process that is the first of its container (pid_namespaces(7))."""

import signal
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.measured]

SENDS_ITSELF_SIGTERM = """
import os, signal
from app_runtime.first_process import end_by_sigterm
{before}
end_by_sigterm(process={process})
os.kill(os.getpid(), signal.SIGTERM)
"""
AS_PYTHON_STARTS = "signal.signal(signal.SIGTERM, signal.SIG_DFL)"  # coverage has a handler of its own
HANDLER = "signal.signal(signal.SIGTERM, lambda *_: os._exit(7))"


@pytest.mark.parametrize(
    ("process", "before", "status"),
    [
        (1, AS_PYTHON_STARTS, 128 + signal.SIGTERM),
        (2, AS_PYTHON_STARTS, -signal.SIGTERM),
        (1, HANDLER, 7),
    ],
)
def test_the_first_process_gets_a_handler_unless_it_has_one(process: int, before: str, status: int) -> None:
    script = SENDS_ITSELF_SIGTERM.format(process=process, before=before)

    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=90).returncode == status
