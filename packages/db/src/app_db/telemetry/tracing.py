"""Whether this process traces its SQL and its jobs; OpenTelemetry is imported only where a collector is named."""

from typing import TYPE_CHECKING

from app_runtime.telemetry.tracing import TracingSettings, naming_extra

if TYPE_CHECKING:
    from app_db.telemetry.traces import DatabaseTraces

type Tracing = DatabaseTraces | None
"""The traces of this process; None if tracing is off."""


def traces_of(settings: TracingSettings, *, service: str) -> Tracing:
    """Return what traces this process, which runs the installed distribution `service`, if the settings ask for it.

    Raises:
        Misconfigured: when the extra `tracing` is not installed.
    """
    if settings.endpoint is None:
        return None
    with naming_extra(service):
        from app_db.telemetry.traces import DatabaseTraces  # noqa: PLC0415  # only who traces pays for it
    return DatabaseTraces(str(settings.endpoint), settings.sample, service)
