"""Run pytest again and again, each time in a new process with installed modules already loaded (scripts/guards.py).

Reads one JSON array a line, the arguments of a run, and answers with its exit code. The first run finds the modules
to load: those that it imports from installed packages, none of the checkout.
"""

import importlib
import json
import multiprocessing
import os
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

FORK = multiprocessing.get_context("fork")
HUNG, DIED = -1, -2
"""In place of an exit code: the run took too long; its process ended before pytest did."""


def installed() -> list[str]:
    """Return the names of loaded modules that are installed."""
    return [
        name
        for name, module in list(sys.modules.items())
        if name != "__main__" and "site-packages" in (getattr(module, "__file__", None) or "")
    ]


def run(arguments: list[str], loaded: Connection) -> None:
    """Run pytest as `python -m pytest` would; send its exit code and the modules that it has loaded."""
    output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    import pytest  # noqa: PLC0415  # in the process of the run: it may load plugins that are about to be changed

    loaded.send((int(pytest.main(arguments)), installed()))


def run_apart(arguments: list[str], seconds: float) -> tuple[int, list[str]]:
    """Run pytest in a process of its own, and return its exit code and the modules that it has loaded."""
    ours, theirs = FORK.Pipe(duplex=False)
    process = FORK.Process(target=run, args=(arguments, theirs))
    process.start()
    theirs.close()
    try:
        code, names = ours.recv() if ours.poll(seconds) else (HUNG, [])
    except EOFError:  # the process ended without an exit code of pytest
        code, names = DIED, []
    process.join(0 if code == HUNG else 5)
    process.kill()
    process.join()
    return code, names


def main() -> None:
    """Serve until the input ends."""
    seconds = float(sys.argv[1])
    sys.path[0] = str(Path.cwd())
    to_load: list[str] | None = None
    for line in sys.stdin:
        code, names = run_apart(json.loads(line), seconds)
        print(code, flush=True)
        if to_load is None:
            to_load = names
            for name in to_load:
                with suppress(Exception):  # each run loads such a module itself
                    importlib.import_module(name)


if __name__ == "__main__":
    main()
