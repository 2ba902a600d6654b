"""What a process that shows no QR code does without."""

import subprocess
import sys


def test_an_api_that_has_shown_no_qr_code_has_not_loaded_what_draws_them() -> None:
    program = "import sys, app_api.main; print('segno' in sys.modules)"

    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "False"
