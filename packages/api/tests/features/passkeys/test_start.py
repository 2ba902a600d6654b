"""What a process that serves no passkey does without."""

import subprocess
import sys


def test_an_api_that_has_seen_no_passkey_has_not_loaded_what_verifies_them() -> None:
    """6 MB of each process, and 0.2 s of its start."""
    program = "import sys, app_api.main; print({'webauthn', 'cbor2', 'pyasn1'} & {*sys.modules})"

    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "set()"
