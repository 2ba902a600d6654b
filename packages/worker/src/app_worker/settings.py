"""The settings of the worker, from its environment (.env.example lists them)."""

from datetime import timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, AnyHttpUrl, BaseModel, Field

from app_auth.base_url import BaseAddress, base_url_weaknesses
from app_auth.keys import weaknesses
from app_auth.mail import MailSettings
from app_auth.payload_keys import PayloadKeySettings
from app_auth.settings import OneTimeSettings
from app_db.jobs.bounds import LONGEST_LEASE, require_name
from app_db.settings import DatabaseSettings
from app_runtime.configuration import Environment, Misconfigured
from app_runtime.durations import Duration
from app_runtime.telemetry.endpoint import MetricsSettings
from app_runtime.telemetry.logs import LogSettings
from app_runtime.telemetry.trace_settings import TracingSettings
from app_runtime.valkey import ValkeySettings

ELSEWHERE: Final = ("APP_AUTH__", "APP_CONSOLE__", "APP_HTTP__", "APP_THROTTLE__")
"""Settings of the API only: API and worker may share one set of settings."""
FOR_RUN: Final = ("APP_REDIS__", "APP_METRICS__", "APP_TRACING__")
"""Settings that only `run` reads."""


def _check_queue(name: str) -> str:
    require_name(name, "a queue")
    return name


type QueueName = Annotated[str, AfterValidator(_check_queue)]


class JobSettings(BaseModel, frozen=True):
    """`APP_WORKER__…`."""

    queues: Annotated[tuple[QueueName, ...], Field(min_length=1)] = ("default",)
    """Queues that this process serves."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 10
    """Jobs at once, per queue."""
    lease: Annotated[Duration, Field(ge=timedelta(seconds=1), le=LONGEST_LEASE)] = timedelta(seconds=15)
    """After a worker died, its jobs start again within this time."""
    grace: Annotated[Duration, Field(le=timedelta(days=1))] = timedelta(seconds=10)
    """After SIGTERM running jobs have so long to finish; then they are given back, with their attempt."""

    @property
    def beat(self) -> timedelta:
        """How often a worker beats, and renews the leases of its jobs."""
        return self.lease / 5

    @property
    def running_lease(self) -> timedelta:
        """The lease of a delivery, renewed by each beat; shorter than `lease`, because relays poll once a second."""
        return self.lease * 4 / 5

    @property
    def patience(self) -> timedelta:
        """A worker without a beat for this time cancels its leased jobs, before another worker starts them."""
        return self.lease * 2 / 3


class CommandSettings(BaseModel, frozen=True, hide_input_in_errors=True):
    """The settings of commands, which need no Valkey.

    Only main.py reads them from the environment; it passes their parts to everything else.
    """

    env: Environment = Environment.PRODUCTION
    """`production` refuses unsafe settings."""
    database: DatabaseSettings
    auth: OneTimeSettings
    mail: MailSettings = MailSettings()
    log: LogSettings = LogSettings()
    worker: JobSettings = JobSettings()
    jobs: PayloadKeySettings = PayloadKeySettings()
    public_base_url: BaseAddress = AnyHttpUrl("http://localhost:8000")
    """Where people reach the API and the console: links start with it."""


class WorkerSettings(CommandSettings):
    """The settings of `run`, besides those of other commands."""

    redis: ValkeySettings
    metrics: MetricsSettings = MetricsSettings()
    tracing: TracingSettings = TracingSettings()


def require_safe(settings: CommandSettings) -> None:
    """Refuse settings that are not safe in production.

    Raises:
        Misconfigured: with a line for each setting, which does not show its value.
    """
    lines = [f"APP_{ring.upper()}: {weakness}" for ring, weakness in weaknesses(settings)]
    lines += settings.database.weaknesses()  # guard: test_a_worker_in_production_refuses_a_published_password
    lines += settings.mail.weaknesses()  # guard: test_a_worker_in_production_sends_no_password_of_mail_in_the_clear
    lines += base_url_weaknesses(settings.public_base_url)
    if lines:
        raise Misconfigured(*lines)
