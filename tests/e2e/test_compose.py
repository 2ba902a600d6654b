"""Groundwork in containers, started by compose.yaml with empty volumes: two APIs behind the proxy, three workers."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from httpx2 import Client, Response

from app_auth.testing import PASSWORD
from app_db.types import new_id
from tests.packaging.engine import ROOT, docker

from .stack import Stack, running, until

pytestmark = pytest.mark.timeout(900)  # the first test builds the images


@pytest.fixture(scope="module", params=["direct", pytest.param("pooled", marks=pytest.mark.slow)])
def stack(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The stack; one for all tests of this module, and in the nightly lane one with PgBouncer."""
    folder = tmp_path_factory.mktemp("stack")
    with running(folder, "api=2", "worker=3", pooled=request.param == "pooled") as stack:
        yield stack


@dataclass(frozen=True, slots=True)
class User:
    """A user who has registered, confirmed the address by mail, and signed in."""

    http: Client
    email: str
    refresh_token: str

    def state_of(self, job: Response) -> str:
        state: str = self.http.get(job.headers["Location"]).raise_for_status().json()["state"]
        return state


@pytest.fixture(scope="module")
def user(stack: Stack) -> Iterator[User]:
    email = f"{new_id().hex}@example.test"
    with Client(base_url=stack.url, timeout=90) as http:
        http.post("/auth/register", json={"email": email, "password": PASSWORD}).raise_for_status()
        verification = {"token": stack.token_mailed_to(email), "password": PASSWORD}
        http.post("/auth/email/verify", json=verification).raise_for_status()
        signed_in = http.post("/auth/access-token", data={"username": email, "password": PASSWORD}).raise_for_status()
        tokens = signed_in.json()
        http.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        yield User(http, email, tokens["refresh_token"])


def test_a_stack_from_nothing_registers_somebody_by_mail_and_signs_them_in(user: User) -> None:
    refreshed = user.http.post("/auth/refresh-token", json={"refresh_token": user.refresh_token})

    assert refreshed.status_code == 200
    assert user.http.get("/auth/me").json()["email"] == user.email


def test_a_worker_of_the_stack_does_an_export(user: User) -> None:
    job = user.http.post("/auth/me/export").raise_for_status()

    until(lambda: user.state_of(job) == "completed", "the export is done")


def test_a_container_that_is_killed_in_the_middle_of_a_job_leaves_it_to_another(stack: Stack, user: User) -> None:
    before = len(stack.mails_to(user.email))
    (mail,) = stack.containers("mail")
    docker("pause", mail)  # so that the worker that sends the mail is in the middle of it
    user.http.post("/auth/password/forgot", json={"email": user.email}).raise_for_status()
    holder = "SELECT host FROM job_workers JOIN jobs ON worker_id = job_workers.id WHERE state = 'executing'"
    until(lambda: stack.sql(holder), "a worker has begun")

    docker("kill", stack.sql(holder)[0])
    docker("unpause", mail)

    until(lambda: len(stack.mails_to(user.email)) > before, "another worker has sent the mail")
    assert len(stack.containers("worker")) == 2


def test_a_container_of_the_api_that_is_stopped_under_load_fails_no_request(stack: Stack, user: User) -> None:
    over = threading.Event()
    answers: list[int] = []

    def ask() -> None:
        with Client(base_url=stack.url, headers=user.http.headers, timeout=90) as http:
            while not over.is_set():
                answers.extend((http.get("/auth/me").status_code, http.post("/auth/me/export").status_code))

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(ask) for _ in range(8)]
        until(lambda: len(answers) > 100, "there is load")
        api = stack.containers("api")[0]
        docker("stop", "--time", "20", api)
        meanwhile = len(answers)
        until(lambda: len(answers) > meanwhile + 100, "the other one carries the load")
        docker("start", api)
        over.set()
        for client in clients:
            client.result()

    assert set(answers) <= {200, 202, 429}  # exports are throttled
    assert len(stack.containers("api")) == 2


def test_a_tick_fires_once_however_many_containers_run_the_schedule(stack: Stack) -> None:
    back = "UPDATE job_crons SET last_tick_at = last_tick_at - interval '10 min' WHERE name = 'sessions.prune'"
    moment = stack.sql(f"{back} RETURNING now()")[0]
    fired = f"SELECT run_at FROM jobs WHERE kind = 'sessions.prune' AND created_at > '{moment}'"

    until(lambda: stack.sql(fired), "the tick that was missed has fired")

    ticks = stack.sql(fired)
    assert len(ticks) == len(set(ticks))


def test_prometheus_scrapes_every_api_every_worker_and_the_proxy(stack: Stack) -> None:
    def scraped() -> dict[str, str]:
        with Client(base_url=stack.prometheus, timeout=90) as http:
            targets = http.get("/api/v1/targets").raise_for_status().json()["data"]["activeTargets"]
        return {target["scrapeUrl"]: target["health"] for target in targets}

    expected = sum(len(stack.containers(service)) for service in ("api", "worker", "proxy"))

    until(lambda: [*scraped().values()].count("up") >= expected, f"{expected} of them are up")


def asked_of(prometheus: str, path: str, **parameters: str) -> Any:  # Any: JSON
    with Client(base_url=prometheus, timeout=90) as http:
        return http.get(f"/api/v1/{path}", params=parameters).raise_for_status().json()["data"]


def test_prometheus_answers_with_what_the_api_has_counted(stack: Stack, user: User) -> None:
    user.http.get("/auth/me").raise_for_status()
    counted = 'sum(app_http_request_seconds_count{job="api", route="/auth/me"})'

    def requests() -> float:
        return sum(float(sample["value"][1]) for sample in asked_of(stack.prometheus, "query", query=counted)["result"])

    until(lambda: requests() > 0, "the request is counted")


def test_prometheus_has_every_alert_of_ours(stack: Stack) -> None:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    ours = sorted(rule["alert"] for group in groups for rule in group["rules"])

    loaded = asked_of(stack.prometheus, "rules")["groups"]

    assert sorted(rule["name"] for group in loaded for rule in group["rules"]) == ours
