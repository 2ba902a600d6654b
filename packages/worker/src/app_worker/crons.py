"""The crons of all features, from their `crons.py`."""

from collections.abc import Iterator

from app_runtime.discovery import FeatureError, find
from app_worker.schedule import Cron


def found_crons(package: str) -> Iterator[Cron]:
    """Yield the crons of features, each a `Cron` with a name in their `crons.py`.

    Raises:
        FeatureError: two of them have one name.
    """
    places: dict[str, str] = {}
    for found in find(package, "crons"):
        crons = {id(value): value for value in vars(found.module).values() if isinstance(value, Cron)}
        for cron in crons.values():
            if cron.name in places:
                raise FeatureError(f"{found.path}: there is a cron {cron.name!r} in {places[cron.name]}: rename one")
            places[cron.name] = found.path
            yield cron


CRONS: tuple[Cron, ...] = tuple(found_crons("app_worker.features"))
