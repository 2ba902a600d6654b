"""Delivers events, disables endpoints that do not answer, and keeps the log small."""

import random
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import httpx2
import structlog

from app_auth.audit import Event, audit
from app_auth.client import NOBODY
from app_auth.features.webhooks.errors import SecretLost
from app_auth.features.webhooks.secrets import seal, unseal
from app_auth.settings import KeyRing, active
from app_db import Session
from app_db.clock import database_time
from app_db.features.webhooks.models import DeliveryState, DisabledBecause, WebhookEndpoint
from app_db.features.webhooks.outcomes import WebhookOutcomes
from app_db.features.webhooks.payloads import DeliverWebhook, KeepWebhooks, WebhookDisabled
from app_db.features.webhooks.repository import WebhookRepository
from app_db.features.webhooks.settings import WebhookSettings
from app_db.jobs.outbox import enqueue
from app_db.repositories.users import UserRepository
from app_worker.context import Discard, JobContext, Snooze
from app_worker.correspondence import mail_to
from app_worker.features.webhooks.messages import Message
from app_worker.features.webhooks.sender import Answer, Problem, WebhookSender
from app_worker.pruning import delete_all, note_done
from app_worker.registry import Mode, handles

log = structlog.get_logger(__name__)

WAITS: Final = (5, 300, 1800, 7200, 5 * 3600, 10 * 3600, 14 * 3600, 16 * 3600)
"""Seconds before the second attempt, the third, …: two days together."""
MOST_ATTEMPTS: Final = len(WAITS) + 1
GONE: Final = 410
BUSY: Final = 3.0
"""Seconds, more or less, for which a delivery waits while its worker sends others."""
SEALED_AT_ONCE: Final = 100


class DeliveryFailed(Exception):
    """An endpoint has not accepted an event: the log of its owner says why, and has the answer."""


def wait_after(attempt: int) -> timedelta:
    """Return how long to wait after failed attempt number `attempt`, ± 10 %."""
    seconds = WAITS[min(attempt, len(WAITS)) - 1]
    return timedelta(seconds=seconds * random.uniform(0.9, 1.1))  # noqa: S311  # jitter, not a secret


@handles(
    DeliverWebhook,
    mode=Mode.LEASE,
    timeout=timedelta(seconds=30),
    max_attempts=MOST_ATTEMPTS,
    backoff=wait_after,
    keep=timedelta(hours=1),
)
async def deliver(job: JobContext, payload: DeliverWebhook, sender: WebhookSender, settings: WebhookSettings) -> None:
    """Send one event to one endpoint. Nothing is sent if it was delivered, or its endpoint is disabled or gone."""
    message = await _message_of(job, payload.delivery_id)
    if message is None:
        return
    with sender.place(message.endpoint.user_id) as is_free:
        if not is_free:
            raise Snooze(timedelta(seconds=BUSY * random.uniform(0.5, 1.5)))  # noqa: S311  # jitter, not a secret
        try:
            headers, body = message.signed_by(job.mails.one_time_tokens.keys)
            answer = await sender.send(message.endpoint.url, headers, body)
        except SecretLost:
            answer = Answer(problem=Problem.SECRET_LOST)
    if answer.problem is None:
        async with job.last_transaction() as session:
            outcomes = WebhookOutcomes(session)
            await outcomes.note(message.delivery, _line_of(message, answer), DeliveryState.DELIVERED)
            await outcomes.succeeded(message.endpoint.id)
        return
    is_over = await _note_failure(job, message, answer, disable_after=settings.disable_after)
    why = f"{answer.problem}, status {answer.status}"
    raise Discard(why) if is_over else DeliveryFailed(why)


async def _message_of(job: JobContext, delivery_id: UUID) -> Message | None:
    async with job.transaction() as session:
        outcomes = WebhookOutcomes(session)
        found, now = await outcomes.find(delivery_id), await database_time(session)
        if found is None:
            return None  # guard: test_a_delivery_of_an_endpoint_that_is_gone_sends_nothing
        delivery, endpoint = found
        if delivery.state is not DeliveryState.PENDING or delivery.job_id != job.id:
            return None  # guard: test_what_has_ended_is_not_sent_again
        if endpoint.disabled_at is not None:
            await outcomes.note(delivery, None, DeliveryState.FAILED)
            return None  # guard: test_nothing_is_sent_to_an_endpoint_that_is_disabled
    return Message(delivery, endpoint, now)


def _line_of(message: Message, answer: Answer) -> dict[str, Any]:  # Any: JSON
    return {
        "at": message.now.isoformat(),
        "milliseconds": answer.milliseconds,
        "status": answer.status,
        "problem": answer.problem,
        "answer": answer.text,
    }


async def _note_failure(job: JobContext, message: Message, answer: Answer, *, disable_after: timedelta) -> bool:
    """Note an attempt that failed, disable the endpoint if it is time, and return whether this was the last attempt."""
    is_last = job.attempt >= (job.job.max_attempts or MOST_ATTEMPTS)
    is_gone = answer.status == GONE
    state = DeliveryState.FAILED if is_last or is_gone else DeliveryState.PENDING
    endpoint_id = message.endpoint.id
    async with job.transaction() as session:
        outcomes = WebhookOutcomes(session)
        await outcomes.note(message.delivery, _line_of(message, answer), state)
        await outcomes.failed(endpoint_id)
        if is_gone:
            await _disable(session, endpoint_id, DisabledBecause.GONE)
        elif is_last:
            await _disable(session, endpoint_id, DisabledBecause.FAILING, failing_for=disable_after)
    return state is DeliveryState.FAILED


async def _disable(
    session: Session, endpoint_id: UUID, because: DisabledBecause, *, failing_for: timedelta = timedelta(0)
) -> None:
    user_id = await WebhookOutcomes(session).disable(endpoint_id, because, failing_for=failing_for)
    if user_id is None:
        return
    audit(
        session, Event.WEBHOOK_DISABLED, client=NOBODY, user_id=user_id, webhook=str(endpoint_id), because=because.value
    )
    await enqueue(session, WebhookDisabled(endpoint_id=endpoint_id, because=because))
    log.info("webhook_disabled", webhook=str(endpoint_id), because=because.value)


@handles(WebhookDisabled, mode=Mode.LEASE, timeout=timedelta(seconds=30))
async def tell_owner(job: JobContext, payload: WebhookDisabled) -> None:
    """Mail the owner of an endpoint that nothing is sent to it any more, unless it is gone or enabled again."""
    async with job.transaction() as session:
        endpoint = await WebhookRepository(session).get(payload.endpoint_id)
        user = None if endpoint is None else await UserRepository(session).get(endpoint.user_id)
    if endpoint is None or user is None or endpoint.disabled_at is None:
        log.info("webhook_not_mailed", because="gone, or enabled again")
        return
    host = httpx2.URL(endpoint.url).host  # what follows may be a secret of the receiver
    await mail_to(job, user, "webhook_disabled", host=host, because=payload.because)


@handles(KeepWebhooks, mode=Mode.LEASE, timeout=timedelta(minutes=10))
async def keep_webhooks(job: JobContext, payload: KeepWebhooks, settings: WebhookSettings) -> dict[str, int]:
    """Seal anew what the active key has not sealed, end deliveries whose job says nothing, and delete old ones."""
    ring, sealed = job.mails.one_time_tokens.keys, 0
    async with job.transaction() as session:
        for endpoint in await WebhookRepository(session).sealed_by_others(active(ring).kid, limit=SEALED_AT_ONCE):
            sealed += _sealed_anew(ring, endpoint)
        ended = await WebhookRepository(session).end_without_job()
    pruned = await delete_all(job, lambda session: WebhookOutcomes(session).delete_old(settings.keep))
    await note_done(job, payload, applied={"keep": settings.keep.total_seconds()})
    return {"sealed": sealed, "ended": ended, "deliveries": pruned}


def _sealed_anew(ring: KeyRing, endpoint: WebhookEndpoint) -> bool:
    try:
        keys = unseal(ring, endpoint.sealed, endpoint_id=endpoint.id, key_id=endpoint.key_id)
    except SecretLost:
        log.warning("webhook_secret_lost", webhook=str(endpoint.id))
        return False
    endpoint.sealed, endpoint.key_id = seal(ring, keys, endpoint_id=endpoint.id)
    return True
