"""The plugin of every test run: it removes variables that a shell exported for others, and offers a real Valkey."""

import importlib
import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import pytest

from app_runtime.testing.environment import for_tests
from app_runtime.testing.servers import ValkeyServer

type MakeFeatures = Callable[[Mapping[str, str]], str]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a product name the variables that its own tests read."""
    parser.addini(
        "let_through", "variables that tests see besides those of app_runtime.testing.environment", type="args"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Remove variables that the shell exported for others, before a test module is imported or a server is started."""
    kept = for_tests(os.environ, more=session.config.getini("let_through"))
    os.environ.clear()
    os.environ.update(kept)  # guard: test_what_a_shell_exports_for_others_does_not_reach_the_tests
    # A shell may start tests in the background with SIGINT ignored; their programs would then ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)  # guard: test_programs_of_a_test_hear_ctrl_c


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, obj: object) -> list[pytest.Item] | None:
    """Collect no imported class with a constructor, such as a model `Testimonial`: it is no class of tests."""
    if not inspect.isclass(obj) or obj.__module__ == collector.module.__name__:
        return None
    has_constructor = obj.__init__ is not object.__init__ or obj.__new__ is not object.__new__
    return [] if has_constructor else None


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """Return the URL of a Valkey of this test process alone.

    Example:
        async def test_valkey_is_reached(valkey_url: str) -> None:
            settings = ValkeySettings.model_validate({"url": valkey_url})

            async with connect(settings) as valkey:
                assert await valkey.ping()
    """
    with ValkeyServer.temporary() as valkey:
        yield valkey.url


@pytest.fixture
def make_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeFeatures]:
    """Return a function that writes files such as `pets/models.py` below a package, and returns the package's name."""
    packages: list[str] = []
    monkeypatch.syspath_prepend(tmp_path)

    def make(files: Mapping[str, str]) -> str:
        packages.append(f"features_{uuid4().hex}")
        for name, text in {"__init__.py": "", **files}.items():
            path = tmp_path / packages[-1] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        importlib.invalidate_caches()
        return packages[-1]

    yield make
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[name]
