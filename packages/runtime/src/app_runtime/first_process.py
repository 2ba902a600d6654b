"""How the first process of a container is stopped."""

import os
import signal


def end_by_sigterm(*, process: int) -> None:
    """Let SIGTERM end this process if it is the first of a container; `process` is its pid.

    The kernel delivers to process 1 of a container only signals that it has a handler for (pid_namespaces(7)). Call
    this before the long imports: a SIGTERM during them would be lost. An existing handler stays.

        end_by_sigterm(process=os.getpid())
    """
    if process == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
