"""The metrics of the API, for Prometheus (docs/how-to/operations.md has the alerts)."""

import re
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app_api.http_names import METHODS
from app_auth.auth import Auth
from app_db.errors import AppError
from app_runtime.telemetry.lag import LoopLag
from app_runtime.telemetry.series import Counter, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
COUNTED = frozenset({*METHODS, "OPTIONS"})
"""Methods that have a label of their own."""
NO_ROUTE = "none"
"""One label for all paths without a route: clients may send any number of them."""


class Metrics(Collector):
    """The figures of one API process. All methods may be called at any rate and never fail."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.in_flight = 0
        """Requests that have begun and not ended."""
        self.dependencies: Mapping[str, bool] = {}
        """Whether each dependency works; empty unless `watching` checks them."""
        self.loop = LoopLag()
        """How long the event loop has been blocked."""
        self._count_requests()
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.registry.register(self)
        for error in _kinds(AppError):
            self._errors.labels(name_of(error))  # a rate needs a series that starts at zero

    def _count_requests(self) -> None:
        self._requests = Counter(
            "app_http_requests", "Requests that have ended.", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "app_http_request_seconds", "From the headers of a request to the end of its answer.", ["method", "route"],
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self._errors = Counter(
            "app_http_errors", "Requests refused, by the error that says why.", ["error"], registry=self.registry
        )
        self.unnamed = Counter(
            "app_http_proxy_unnamed_clients", "Requests of a trusted proxy that named no address.",
            registry=self.registry,
        )  # fmt: skip

    def finished(self, method: str, route: str | None, status: int, seconds: float | None) -> None:
        """Count a request that has ended; its status is 0 if its client went away before the answer.

        `seconds` is None for what is no measure of speed.
        """
        key = (method, route or NO_ROUTE, status)
        series = self._series.get(key)
        if series is None:
            # Known routes and methods make few series; all others count under one name, as clients may send any.
            labels = (method if method in COUNTED else "other", key[1])
            series = self._requests.labels(*labels, status), self._seconds.labels(*labels)
            if method in COUNTED:
                self._series[key] = series
        series[0].inc()
        if seconds is not None:
            series[1].observe(seconds)

    def refused(self, error: type[AppError]) -> None:
        """Count an expected failure."""
        self._errors.labels(name_of(error)).inc()

    def collect(self) -> Iterator[Metric]:
        """Yield `app_dependency_up`, `app_http_requests_in_flight` and `app_http_loop_lag_seconds`."""
        up = GaugeMetricFamily("app_dependency_up", "Whether it answers as it should.", labels=["dependency"])
        for dependency, is_up in self.dependencies.items():
            up.add_metric([dependency], is_up)
        yield up
        yield GaugeMetricFamily("app_http_loop_lag_seconds", "Since the event loop is blocked.", self.loop.seconds)
        yield GaugeMetricFamily("app_http_requests_in_flight", "Requests that run or wait.", self.in_flight)


class AuthCollector(Collector):
    """Exports the figures of app_auth, which does not know Prometheus."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth

    def collect(self) -> Iterator[Metric]:
        """Yield the queue of the hashing pool, unusable hashes, and how often the limits lost Valkey."""
        passwords, shared = self._auth.passwords, self._auth.throttle.shared
        yield GaugeMetricFamily("app_password_hash_threads", "Hashes that can run at once.", passwords.threads)
        yield GaugeMetricFamily("app_password_hashes_waiting", "Hashes that wait for a thread.", passwords.waiting)
        flaws = CounterMetricFamily(
            "app_password_hash_flaws", "Stored hashes met that no password can match, by why.", labels=["flaw"]
        )
        for flaw, met in passwords.flaws.items():
            flaws.add_metric([flaw], met)
        yield flaws
        outages = 0 if shared is None else shared.outages
        yield CounterMetricFamily("app_throttle_valkey_outages", "How often the limits lost Valkey.", outages)


def name_of(error: type[AppError]) -> str:
    """Return the label of an error, from its class: several classes may share a `code`, to tell clients less."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", error.__name__).lower()


def _kinds(error: type[AppError]) -> Iterator[type[AppError]]:
    for kind in error.__subclasses__():
        yield kind
        yield from _kinds(kind)
