"""Garbage is not looked for where there is none."""

import gc
from collections.abc import Iterator

import pytest

from app_runtime.garbage import frozen_imports


@pytest.fixture(autouse=True)
def frozen_before() -> Iterator[int]:
    """The number of objects that were frozen: none, or those of a whole run of tests (conftest.py)."""
    yield (before := gc.get_freeze_count())
    if not before:
        gc.unfreeze()


def test_no_garbage_is_looked_for_among_imports(frozen_before: int) -> None:
    with frozen_imports():
        imported: list[object] = []
        assert not gc.isenabled()

    assert gc.isenabled()
    assert gc.get_freeze_count() > frozen_before
    assert not any(found is imported for found in gc.get_objects())


def test_garbage_is_looked_for_after_a_failed_import() -> None:
    with pytest.raises(ImportError), frozen_imports():
        raise ImportError

    assert gc.isenabled()
