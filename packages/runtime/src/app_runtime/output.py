"""The output of commands: if it cannot be written, one line says so instead of a traceback."""

import os
import sys

SIGPIPE_STATUS = 141
"""The exit status after a closed pipe, as shells use it."""


def write_out(text: str) -> None:
    """Write to standard output, all of it, now.

    Raises:
        SystemExit: 141 if the reader has gone, as after `head`; 1 with a line for a full disk.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()  # guard: test_a_command_whose_answer_cannot_be_written_says_so
    except BrokenPipeError:
        _give_up()
        sys.exit(SIGPIPE_STATUS)
    except OSError as error:
        _give_up()
        sys.exit(f"error: the answer cannot be written: {error.strerror}")


def _give_up() -> None:
    # Otherwise the interpreter would try to flush at its end, and print an error.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
