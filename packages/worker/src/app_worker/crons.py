"""The crons of all features, from their `crons.py`."""

from collections.abc import Iterator

from app_runtime.discovery import FeatureError, find
from app_worker.schedule import Cron


def found_crons(package: str) -> Iterator[Cron]:
    """Yield the crons of features, each a `Cron` with a name in their `crons.py`.

    Raises:
        FeatureError: a file has no cron, or two crons have the same name.
    """
    known: dict[str, tuple[Cron, str]] = {}
    for found in find(package, "crons"):
        crons = {id(value): value for value in vars(found.module).values() if isinstance(value, Cron)}
        if not crons:
            raise FeatureError(f"{found.path}: give each cron a name of its own: `nightly = Cron(…)`")
        for cron in crons.values():
            if cron.name not in known:
                known[cron.name] = cron, found.path
                yield cron
            elif known[cron.name][0] is not cron:  # else one file has imported it from the other
                raise FeatureError(f"{found.path}: there is a cron {cron.name!r} in {known[cron.name][1]}: rename one")


CRONS: tuple[Cron, ...] = tuple(found_crons("app_worker.features"))
