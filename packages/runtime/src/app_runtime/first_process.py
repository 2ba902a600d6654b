"""How the first process of a container is stopped."""

import os
import signal


def end_by_sigterm(*, process: int) -> None:
    """Let SIGTERM end this process, whose number is `process`, where the kernel would not.

    The kernel keeps from process 1 of a container each signal that it has no handler for (pid_namespaces(7)). Call it
    before the long imports, or a stop that comes meanwhile is lost. A handler that is there already stays.

        end_by_sigterm(process=os.getpid())
    """
    if process == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
