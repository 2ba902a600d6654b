"""The handlers of all features, from their `handlers.py`."""

from collections.abc import Iterator

from app_runtime.discovery import FeatureError, find
from app_worker.registry import Handler


def found_handlers(package: str) -> Iterator[Handler]:
    """Yield the handlers of features: the functions with `@handles(…)` in their `handlers.py`.

    Raises:
        FeatureError: two handlers are for the same kind of job.
    """
    known: dict[str, tuple[Handler, str]] = {}
    for found in find(package, "handlers"):
        handlers = {id(value): value for value in vars(found.module).values() if isinstance(value, Handler)}
        for handler in handlers.values():
            kind = handler.payload_class.kind
            if kind not in known:
                known[kind] = handler, found.path
                yield handler
            elif known[kind][0] is not handler:  # else one file has imported it from the other
                raise FeatureError(
                    f"{found.path}: {kind!r} has a handler already in {known[kind][1]}: remove one of them"
                )


HANDLERS: tuple[Handler, ...] = tuple(found_handlers("app_worker.features"))
