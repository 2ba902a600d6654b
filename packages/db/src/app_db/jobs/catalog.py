"""The catalog: the payload classes of all features, from their `payloads.py`."""

import inspect
from collections.abc import Iterator

from app_db.jobs.payload import JobPayload
from app_runtime.discovery import FeatureError, Found, find


def payload_classes(package: str) -> Iterator[type[JobPayload]]:
    """Yield the payload classes of features; one without a `kind` is a base of others.

    Raises:
        FeatureError: two classes have the same kind.
    """
    places: dict[str, str] = {}
    for found in find(package, "payloads"):
        for payload_class in _defined_in(found):
            kind, place = payload_class.kind, f"{payload_class.__name__} in {found.path}"
            if kind in places:
                raise FeatureError(f"{place} has the kind {kind!r} of {places[kind]}: give one of them another kind")
            places[kind] = place
            yield payload_class


def _defined_in(found: Found) -> Iterator[type[JobPayload]]:
    for value in vars(found.module).values():
        is_payload = inspect.isclass(value) and issubclass(value, JobPayload) and hasattr(value, "kind")
        if is_payload and value.__module__ == found.module.__name__:
            yield value


CATALOG: tuple[type[JobPayload], ...] = tuple(payload_classes("app_db.features"))
"""A worker refuses to start unless it has one handler for each class."""
