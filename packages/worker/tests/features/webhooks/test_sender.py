"""A request to an address that a stranger has chosen: where it may go, and what it may cost."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from app_db.features.webhooks.settings import WebhookSettings
from app_db.types import new_id
from app_worker.features.webhooks import sender as senders
from app_worker.features.webhooks.resources import open_sender, open_settings
from app_worker.features.webhooks.sender import ANSWER_KEPT, Answer, Problem, WebhookSender
from packages.worker.tests.features.webhooks.receiver import NAME, Receiver, Resolver, receiving, reply

LOOPBACK = (ip_network("127.0.0.0/8"),)
HERE = Resolver(["127.0.0.1"])


@pytest_asyncio.fixture(loop_scope="session")
async def receiver(tmp_path: Path) -> AsyncIterator[Receiver]:
    async with receiving(tmp_path) as receiver:
        yield receiver


@pytest.fixture
def make_sender(receiver: Receiver) -> Iterator[Any]:
    made: list[WebhookSender] = []

    def make(look_up: Any = HERE, *, seconds: float = 5, **settings: Any) -> WebhookSender:
        given = WebhookSettings(**{"allowed_networks": LOOPBACK, "authorities": receiver.ca_file, **settings})
        made.append(WebhookSender(given, look_up=look_up, seconds=seconds))
        return made[-1]

    yield make
    for each in made:
        each.close()


async def post(sender: WebhookSender, url: str) -> Answer:
    return await sender.send(url, {"webhook-id": "1"}, b"{}")


async def test_a_request_goes_to_the_number_and_proves_the_name(receiver: Receiver, make_sender: Any) -> None:
    answer = await post(make_sender(), receiver.url)

    assert (answer.status, answer.problem, answer.text) == (200, None, "ok")
    [(target, headers, body)] = receiver.received
    assert (target, body) == ("/hook", b"{}")
    assert headers["host"] == f"{NAME}:{receiver.port}"
    assert receiver.names == [NAME]


async def test_an_endpoint_that_proves_another_name_gets_nothing(receiver: Receiver, make_sender: Any) -> None:
    answer = await post(make_sender(), f"https://other.example.com:{receiver.port}/")

    assert (answer.status, answer.problem, answer.text) == (None, Problem.NOT_TRUSTED, None)
    assert receiver.received == []


async def test_an_endpoint_of_an_unknown_authority_gets_nothing(receiver: Receiver, make_sender: Any) -> None:
    answer = await post(make_sender(authorities=None), receiver.url)

    assert answer.problem is Problem.NOT_TRUSTED
    assert receiver.received == []


async def test_a_name_that_changes_between_look_up_and_connection_changes_nothing(
    receiver: Receiver, make_sender: Any
) -> None:
    resolver = Resolver(["127.0.0.1"], ["127.0.0.2"])

    answer = await post(make_sender(resolver, allowed_networks=(ip_network("127.0.0.1/32"),)), receiver.url)

    assert answer.status == 200
    assert resolver.asked == [NAME], "it is looked up once"


async def test_a_name_with_one_private_address_among_others_is_refused(receiver: Receiver, make_sender: Any) -> None:
    answer = await post(make_sender(Resolver(["127.0.0.1", "10.0.0.1"])), receiver.url)

    assert answer.problem is Problem.ADDRESS_REFUSED
    assert receiver.received == []


async def test_the_next_address_is_tried_if_nobody_is_at_the_first(receiver: Receiver, make_sender: Any) -> None:
    answer = await post(make_sender(Resolver(["127.0.0.9", "127.0.0.1"])), receiver.url)

    assert answer.status == 200


async def test_an_endpoint_where_nobody_listens_is_not_connected(make_sender: Any) -> None:
    assert (await post(make_sender(), f"https://{NAME}:9/")).problem is Problem.NOT_CONNECTED


@pytest.mark.parametrize("numbers", [["127.0.0.1"], ["::1"]])
async def test_a_number_in_the_address_is_looked_up_nowhere(
    receiver: Receiver, make_sender: Any, numbers: list[str]
) -> None:
    resolver = Resolver(["192.0.46.8"])
    host = f"[{numbers[0]}]" if ":" in numbers[0] else numbers[0]

    answer = await post(make_sender(resolver, allowed_networks=()), f"https://{host}:{receiver.port}/")

    assert answer.problem is Problem.ADDRESS_REFUSED
    assert resolver.asked == []


async def test_a_redirect_is_not_followed(receiver: Receiver, make_sender: Any) -> None:
    receiver.reply = reply("307 Temporary Redirect", b"", f"Location: https://{NAME}:{receiver.port}/elsewhere")

    answer = await post(make_sender(), receiver.url)

    assert (answer.status, answer.problem) == (307, Problem.REDIRECTED)
    assert len(receiver.received) == 1


async def test_an_endpoint_that_is_slow_is_given_up(receiver: Receiver, make_sender: Any) -> None:
    receiver.reply = None

    answer = await post(make_sender(seconds=0.3), receiver.url)

    assert (answer.status, answer.problem) == (None, Problem.TIMED_OUT)
    assert answer.milliseconds >= 290
    assert receiver.met.is_set()


async def test_an_accepted_event_is_delivered_although_the_answer_never_ends(
    receiver: Receiver, make_sender: Any
) -> None:
    receiver.reply = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nslowly"

    answer = await post(make_sender(seconds=0.3), receiver.url)

    assert (answer.status, answer.problem, answer.text) == (200, None, "slowly")


async def test_an_answer_without_end_is_cut_off(receiver: Receiver, make_sender: Any) -> None:
    receiver.reply, receiver.endless = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n", True

    answer = await post(make_sender(), receiver.url)

    assert answer.problem is None
    assert answer.text == "0" * ANSWER_KEPT
    assert len(answer.body) < 1_000_000


async def test_what_postgresql_cannot_store_is_replaced(receiver: Receiver, make_sender: Any) -> None:
    receiver.reply = reply("500 No", b"a\0b\xff")

    assert (await post(make_sender(), receiver.url)).text == "a\ufffdb\ufffd"


async def test_what_is_no_answer_is_a_problem(receiver: Receiver, make_sender: Any) -> None:
    receiver.reply = b"220 mail.example.com\r\n"

    assert (await post(make_sender(), receiver.url)).problem is Problem.BROKEN_OFF


async def test_no_cookie_comes_back(receiver: Receiver, make_sender: Any) -> None:
    receiver.reply = reply("200 OK", b"", "Set-Cookie: a=b")
    sender = make_sender()

    for _ in range(2):
        await post(sender, receiver.url)

    assert all("cookie" not in headers for _, headers, _ in receiver.received)


async def test_a_name_that_nobody_knows_is_a_problem(make_sender: Any) -> None:
    sender = make_sender(None)  # asks the system

    assert (await post(sender, "https://nobody.invalid/")).problem is Problem.NAME_UNKNOWN
    assert (await post(make_sender(Resolver([])), "https://empty.example.com/")).problem is Problem.NAME_UNKNOWN


async def test_the_system_is_asked_by_default(receiver: Receiver, make_sender: Any) -> None:
    sender = make_sender(None, allowed_networks=())

    assert (await post(sender, f"https://localhost:{receiver.port}/")).problem is Problem.ADDRESS_REFUSED


async def test_a_resolver_that_hangs_costs_no_more_than_the_limit(
    make_sender: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its threads are its own, so that nobody else waits for one."""
    hanging, names = threading.Event(), []

    def hang(name: str, *_: object, **__: object) -> list[Any]:
        names.append(threading.current_thread().name)
        hanging.wait(30)
        return []

    monkeypatch.setattr("socket.getaddrinfo", hang)
    try:
        answers = await asyncio.gather(*(post(make_sender(None, seconds=0.3), f"https://{NAME}/") for _ in range(2)))
    finally:
        hanging.set()

    assert {answer.problem for answer in answers} == {Problem.TIMED_OUT}
    assert all(name.startswith("webhook-names") for name in names)


def test_slow_endpoints_leave_slots_to_other_jobs(make_sender: Any) -> None:
    sender, ada, ben, eve = make_sender(at_once=3), new_id(), new_id(), new_id()

    with sender.place(ada) as first, sender.place(ada) as second:
        with sender.place(ada) as third, sender.place(ben) as another, sender.place(eve) as last:
            assert (first, second, third, another, last) == (True, True, False, True, False)
        with sender.place(eve) as again:
            assert again


def test_the_authorities_of_the_settings_are_trusted_besides_others(receiver: Receiver) -> None:
    both = senders._trusted(WebhookSettings(authorities=receiver.ca_file))
    plain = senders._trusted(WebhookSettings())

    assert len(both.get_ca_certs()) == len(plain.get_ca_certs()) + 1


async def test_a_process_has_one_sender_until_it_ends() -> None:
    settings = WebhookSettings()

    async with asynccontextmanager(open_sender)(settings) as sender:
        assert not sender._threads._shutdown
    async with asynccontextmanager(open_settings)(settings) as given:
        assert given is settings

    assert sender._threads._shutdown
