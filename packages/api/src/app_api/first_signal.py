"""Imported before all else: a stop that comes while the rest is being imported is no stop that is lost.

The kernel keeps from the first process of a container each signal that it has no handler for (pid_namespaces(7)), and
the imports take a second. Elsewhere SIGTERM ends a process that has no handler.
"""

import os
import signal

if os.getpid() == 1:  # pragma: no cover  only in a container, and nothing is left that could tell
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
