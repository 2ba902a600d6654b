"""Webhooks that lead inside, and a worker that dies while it sends one."""

import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from standardwebhooks.webhooks import Webhook

from app_auth.testing import Account
from app_db.features.webhooks.settings import WebhookSettings
from app_worker.features.webhooks.sender import Problem, WebhookSender
from packages.worker.tests.features.webhooks.receiver import OK, Receiver, receiving
from tests.attack.conftest import Connect, Environment, StartApi
from tests.attack.wire import Wire
from tests.e2e.processes import Worker, eventually, until

INSIDE = [
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.0.0.170", "192.0.2.1",
    "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1",
    "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%lo",
    "fec0::1", "ff02::1",
]  # fmt: skip
NEW = {"url": "https://hooks.example.com/", "events": ["job.discarded"]}
_connections: list[Any] = []


def _note_connections(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        _connections.append(arguments[1])


@pytest.mark.parametrize("number", INSIDE)
async def test_nothing_connects_to_an_address_that_is_not_public(number: str) -> None:
    """A name server of the attacker may say what it likes."""

    async def resolve(name: str) -> Sequence[str]:
        return [number]

    if _note_connections not in _hooked:
        sys.addaudithook(_note_connections)
        _hooked.append(_note_connections)
    sender, before = WebhookSender(WebhookSettings(), look_up=resolve), len(_connections)

    answer = await sender.send("https://hooks.example.com/", {}, b"{}")

    assert (answer.problem, answer.status) == (Problem.ADDRESS_REFUSED, None)
    assert _connections[before:] == []
    sender.close()


_hooked: list[Any] = []


@pytest.mark.parametrize("number", INSIDE)
def test_no_endpoint_has_a_private_number(wire: Wire, ada: Account, number: str) -> None:
    access, _ = wire.tokens(ada.email, ada.password)
    host = f"[{number}]" if ":" in number else number

    reply = wire.post("/webhooks", {**NEW, "url": f"https://{host}/"}, bearer=access)

    assert reply.outcome == (422, "invalid_endpoint_url")


@contextmanager
def running(worker: Worker) -> Iterator[None]:
    """Kill the worker at the end of the block."""
    try:
        yield
    finally:
        worker.kill()


@pytest_asyncio.fixture(loop_scope="session")
async def receiver(tmp_path: Path) -> AsyncIterator[Receiver]:
    """A receiver at a number of this machine, which the servers of the test may reach."""
    async with receiving(tmp_path, names=("127.0.0.1",)) as receiver:
        yield receiver


async def test_an_event_arrives_although_the_worker_was_killed_while_sending_it(
    start_api: StartApi, connect: Connect, ada: Account, receiver: Receiver, worker_environment: Environment,
    tmp_path: Path,
) -> None:  # fmt: skip
    inside = {"APP_WEBHOOKS__ALLOWED_NETWORKS": '["127.0.0.0/8"]', "APP_WEBHOOKS__AUTHORITIES": str(receiver.ca_file)}
    wire = connect(start_api(**inside))
    access, _ = wire.tokens(ada.email, ada.password)
    made = wire.post("/webhooks", {**NEW, "url": f"https://127.0.0.1:{receiver.port}/"}, bearer=access)
    assert made.status == 201, made.body
    path = f"/webhooks/{made.json['id']}"
    receiver.reply = None
    assert wire.post(f"{path}/test", bearer=access).status == 202

    environment = {**worker_environment, **inside, "APP_WORKER__LEASE": "PT2S"}

    with running(Worker(env=environment, log=tmp_path / "first.log")):
        await until(receiver.met.is_set, "it is being sent")
    receiver.reply = OK

    async def is_delivered() -> bool:
        log = wire.get(f"{path}/deliveries", bearer=access).json["items"]
        return [each["state"] for each in log] == ["delivered"]

    with running(Worker(env=environment, log=tmp_path / "second.log")):
        await eventually(is_delivered, "it is delivered")
    ids = {headers["webhook-id"] for _, headers, _ in receiver.received}
    assert (len(receiver.received), len(ids)) == (2, 1)
    _, headers, body = receiver.received[-1]
    assert Webhook(made.json["secret"]).verify(body, headers)["type"] == "webhook.test"
