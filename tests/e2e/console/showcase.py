"""A shop's hour for the pictures: what its jobs did, two things that go wrong, and the customers whom they concern.

The same each time, but for the clock: all is told by a generator with a fixed seed, and ends now.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, update

from app_auth.audit import Event
from app_db import Database, Session
from app_db.features.figures.models import JobFigures
from app_db.features.figures.repository import FigureRepository
from app_db.models import AuditEvent, Job, JobError, JobQueue, JobState, JobWorker, Role, User, UserSession
from app_db.types import utcnow

MINUTES, MOST_ATTEMPTS = 60, 5
CUSTOMERS = (
    "jonas@northwind.example", "amelie@fabrikam.example", "priya@contoso.example", "diego@tailspin.example",
    "hanna@adatum.example", "tom@litware.example", "mei@proseware.example", "lucas@wingtip.example",
    "sara@lamna.example", "oskar@relecloud.example", "ines@woodgrove.example", "ben@alpine.example",
)  # fmt: skip
BROWSERS = (
    ("203.0.113.24", "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 Version/18.1 Safari/605.1.15"),
    ("198.51.100.7", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"),
    ("203.0.113.80", "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) Version/18.1 Mobile Safari/604.1"),
)


@dataclass(frozen=True, slots=True)
class Work:
    """A kind of job of the shop: how many a minute, and how long one takes."""

    kind: str
    queue: str
    a_minute: float
    seconds: float


WORK = (
    Work("search.index_product", "default", 11, 0.07),
    Work("email.receipt", "mail", 8, 0.34),
    Work("images.resize", "media", 6, 2.1),
    Work("invoices.charge", "billing", 3, 1.3),
    Work("email.welcome", "mail", 1.6, 0.28),
    Work("reports.weekly_sales", "media", 0.25, 48),
)
WEBHOOKS = Work("webhooks.deliver", "webhooks", 7, 0.6)
BROKEN_FOR = timedelta(minutes=23)
"""For so long the receiver of most webhooks does not answer."""
TIMEOUT = "ConnectTimeout: hooks.northwind.example:443 did not answer within 5 s"
DECLINED = "CardDeclined: the bank refused card …4242: insufficient funds"
TRACE = """Traceback (most recent call last):
  File "/app/shop_worker/features/webhooks/handlers.py", line 34, in deliver_webhook
    response = await client.post(payload.url, content=body, headers=signed(body, payload.secret_id))
  File "/app/shop_worker/features/webhooks/client.py", line 58, in post
    async with asyncio.timeout(CONNECT_TIMEOUT):
               ~~~~~~~~~~~~~~~^^^^^^^^^^^^^^^^^
httpx2.ConnectTimeout: hooks.northwind.example:443 did not answer within 5 s
"""


class Story:
    """Makes the rows."""

    def __init__(self, now: datetime) -> None:
        self.random = Random(20)  # a story, no secret
        self.now = now
        self.customers = [self.id_at(now - timedelta(days=90 - number)) for number in range(len(CUSTOMERS))]

    def id_at(self, time: datetime) -> UUID:
        """Return an id as if made at that time."""
        milliseconds = int(time.timestamp() * 1000)
        return UUID(
            int=milliseconds << 80 | 7 << 76 | self.random.getrandbits(12) << 64 | 2 << 62 | self.random.getrandbits(62)
        )

    def job(self, work: Work, time: datetime, state: JobState, **different: Any) -> dict[str, Any]:
        """Return a job that was enqueued then and has ended, unless the differences say otherwise."""
        took = timedelta(seconds=work.seconds * self.random.lognormvariate(0, 0.5))
        begun = time + timedelta(seconds=0.01 + self.random.random() / 10)
        owner = self.random.choice(self.customers)
        ends = {"started_at": begun, "finished_at": min(begun + took, self.now), "attempt": 1, "claim_at": None}
        about = {"id": self.id_at(time), "kind": work.kind, "queue": work.queue, "state": state, "owner_id": owner}
        made = {"run_at": time, "created_at": time, "payload": {"order_id": self.order()}, "payload_version": 1}
        rest = {"max_attempts": None, "progress": None, "request_id": f"{self.random.getrandbits(128):032x}"}
        return about | made | ends | rest | different

    def order(self) -> str:
        """Return the number of an order."""
        return f"A-{self.random.randrange(41_000, 43_000)}"

    def times(self, work: Work) -> Iterator[datetime]:
        """Yield when its jobs were enqueued in the hour: more or fewer, as customers come in waves."""
        for minute in range(MINUTES, 0, -1):
            expected = work.a_minute * (1 + 0.35 * math.sin(minute / 7) + 0.15 * math.sin(minute / 2.3))
            for _ in range(int(expected + self.random.random())):
                yield self.now - timedelta(minutes=minute - self.random.random())

    def ended(self) -> Iterator[dict[str, Any]]:
        """Yield the jobs that did what they should."""
        for work in WORK:
            for time in self.times(work):
                yield self.job(work, time, JobState.COMPLETED)
        for time in self.times(WEBHOOKS):
            if time < self.now - BROKEN_FOR or self.random.random() < 0.4:
                yield self.job(WEBHOOKS, time, JobState.COMPLETED)

    def open(self) -> Iterator[dict[str, Any]]:
        """Yield the jobs that run, that wait for their time, and that are due."""
        later, none = self.now + timedelta(hours=1), {"finished_at": None, "attempt": 1}
        for kind, done, of in (("reports.weekly_sales", 3120, 5000), ("images.resize", 2, 4), ("export.account", 1, 3)):
            begun = self.now - timedelta(seconds=17)
            running = {**none, "started_at": begun, "claim_at": later, "progress": {"done": done, "of": of}}
            yield self.job(Work(kind, "media", 0, 1), begun, JobState.EXECUTING, **running)
        for number in range(14):
            time = self.now + timedelta(hours=3 + number)
            waits = {"finished_at": None, "started_at": None, "attempt": 0, "claim_at": time, "run_at": time}
            enqueued = self.now - timedelta(seconds=9 + 200 * number)
            yield self.job(Work("email.cart_reminder", "mail", 0, 1), enqueued, JobState.SCHEDULED, **waits)

    def failed(self) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Yield the jobs that failed, each with its errors; the last is the one to look at."""
        broken = [time for time in self.times(WEBHOOKS) if time >= self.now - BROKEN_FOR]
        for number, time in enumerate([*broken[::4], self.now - BROKEN_FOR + timedelta(seconds=40)]):
            given_up = time < self.now - timedelta(minutes=8)
            attempts = MOST_ATTEMPTS if given_up else 2
            tries = [min(time + timedelta(seconds=3 + 4**each), self.now) for each in range(attempts)]
            customer = self.customers[(0, 0, 4, 7)[number % 4]]
            url = "https://hooks.northwind.example/orders"
            about = {"owner_id": customer, "attempt": attempts, "max_attempts": MOST_ATTEMPTS, "started_at": tries[-1]}
            about |= {"payload": {"url": url, "event": "order.paid", "order_id": self.order(), "secret_id": "whs_3f9a"}}
            if given_up:
                yield self.with_errors(
                    self.job(WEBHOOKS, time, JobState.DISCARDED, **about, finished_at=tries[-1]), tries
                )
            else:
                due = self.now + timedelta(minutes=number % 5 + 1)
                waits = {"finished_at": None, "claim_at": due, "run_at": due}
                yield self.with_errors(self.job(WEBHOOKS, time, JobState.RETRYABLE, **about, **waits), tries)
        for number in range(3):
            time = self.now - timedelta(minutes=41 - 11 * number)
            job = self.job(WORK[3], time, JobState.DISCARDED, owner_id=self.customers[number + 2], max_attempts=1)
            yield self.with_errors(job, [time + timedelta(seconds=1)], error=DECLINED)

    def with_errors(
        self, job: dict[str, Any], tries: list[datetime], *, error: str = TIMEOUT
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the job with an error for each of its tries."""
        trace = TRACE if error == TIMEOUT else None
        of_job = [
            {"id": self.id_at(time), "job_id": job["id"], "attempt": number + 1, "failed_at": time, "error": error}
            for number, time in enumerate(tries)
        ]
        return job, [each | {"trace": trace} for each in of_job]

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield what the audit has of the hour: sign-ins, and somebody who tries passwords."""
        sign_in, refused = Work("", "", 5, 0), Work("", "", 0.7, 0)
        guesses = [self.now - timedelta(minutes=19, seconds=-4 * number) for number in range(26)]
        for event, times in (
            (Event.SIGNED_IN, self.times(sign_in)),
            (Event.SIGN_IN_FAILED, [*self.times(refused), *guesses]),
        ):
            for time in times:
                customer = self.customers[0] if time in guesses else self.random.choice(self.customers)
                about = {"id": self.id_at(time), "event": event.value, "happened_at": time, "user_id": customer}
                yield about | {"client_address": BROWSERS[self.random.randrange(3)][0]}

    def accounts(self) -> Iterator[dict[str, Any]]:
        """Yield the customers."""
        for number, (user_id, email) in enumerate(zip(self.customers, CUSTOMERS, strict=True)):
            since, seen = self.now - timedelta(days=90 - number), self.now - timedelta(minutes=3 + 50 * number)
            about = {
                "id": user_id,
                "email": email,
                "email_canonical": email,
                "password_hash": "none",
                "role": Role.USER,
            }
            verified_at = since + timedelta(minutes=4)
            yield about | {"created_at": since, "signed_in_at": seen, "email_verified_at": verified_at}

    def sessions(self) -> Iterator[dict[str, Any]]:
        """Yield the sign-ins of the first customer that are still open."""
        for number, (address, agent) in enumerate(BROWSERS):
            since, used = self.now - timedelta(days=1 + 6 * number), self.now - timedelta(minutes=3 + 400 * number)
            ends = self.now + timedelta(days=14)
            yield {"id": self.id_at(since), "user_id": self.customers[0], "created_at": since, "last_used_at": used,
                   "refresh_key_id": "k", "idle_expires_at": ends, "expires_at": ends + timedelta(days=16),
                   "client_address": address, "user_agent": agent}  # fmt: skip

    def waiting(self, minute: datetime) -> dict[str, int]:
        """Return how many jobs waited then: since the receiver is silent, more and more webhooks."""
        broken = max(0.0, (minute - self.now + BROKEN_FOR) / BROKEN_FOR)
        return {"mail": 14 + self.random.randrange(5), "webhooks": round(18 * broken) + self.random.randrange(3)}


@dataclass(frozen=True, slots=True)
class Seeded:
    """What the pictures are of."""

    job_id: UUID
    account_id: UUID


async def seed(database: Database) -> Seeded:
    """Fill the database of an API and a worker that run, and count the hour as workers do."""
    story = Story(utcnow())
    failed = [*story.failed()]
    async with database.unit_of_work() as session:
        await session.execute(insert(User), [*story.accounts()])
        await session.execute(insert(UserSession), [*story.sessions()])
        await session.execute(insert(AuditEvent), [*story.events()])
        await session.execute(insert(Job), [*story.ended(), *story.open(), *(job for job, _ in failed)])
        await session.execute(insert(JobError), [error for _, errors in failed for error in errors])
        session.add(JobQueue(name="billing", max_running=4))
        await _add_workers(session, story)
    for _ in range(MINUTES // 10 + 2):
        async with database.unit_of_work() as session:
            await FigureRepository(session).count()
    async with database.unit_of_work() as session:
        for minute in await session.scalars(select(JobFigures)):
            minute.queues = story.waiting(minute.began_at)
    chosen = next(
        job for job, errors in failed if len(errors) == MOST_ATTEMPTS and job["owner_id"] == story.customers[0]
    )
    return Seeded(chosen["id"], chosen["owner_id"])


async def _add_workers(session: Session, story: Story) -> None:
    """Let the worker that runs be one of three."""
    await session.execute(update(JobWorker).values(host="worker-1", pid=7))
    for number, queues in enumerate((["mail", "webhooks"], ["media", "billing"]), start=2):
        worker = JobWorker(id=story.id_at(story.now), host=f"worker-{number}", pid=7, queues=queues, concurrency=10)
        worker.running = 3 if "media" in queues else 0
        session.add(worker)


async def beat(database: Database) -> None:
    """Let the workers that do not run have been seen just now."""
    async with database.unit_of_work() as session:
        await session.execute(update(JobWorker).values(beat_at=func.now()))
