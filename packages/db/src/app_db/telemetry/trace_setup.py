"""Turns on traces of SQL and jobs if the settings name a collector; otherwise OpenTelemetry is not imported."""

from typing import TYPE_CHECKING

from app_runtime.telemetry.trace_settings import TracingSettings, naming_extra

if TYPE_CHECKING:
    from app_db.telemetry.traces import DatabaseTraces

type Tracing = DatabaseTraces | None
"""The traces of this process; None if tracing is off."""


def traces_of(settings: TracingSettings, *, service: str) -> Tracing:
    """Return the traces of this process, which runs the distribution `service`; None if no collector is named.

    Raises:
        Misconfigured: when the extra `tracing` is not installed.
    """
    if settings.endpoint is None:
        return None
    with naming_extra(service):
        from app_db.telemetry.traces import DatabaseTraces  # noqa: PLC0415  # takes time, so only if tracing is on
    return DatabaseTraces(str(settings.endpoint), settings.sample, service)
