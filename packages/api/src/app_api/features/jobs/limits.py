"""Limits of kinds, as operators set them while workers run."""

from app_auth.audit import Event, audit
from app_auth.client import Client
from app_auth.principal import Principal
from app_db import Session
from app_db.errors import Invalid
from app_db.jobs import limit_control


class InvalidLimit(Invalid):
    """A limit is a number of running jobs of at least 1, or a rate such as 100/m, of up to 1000 in a s, m, h or d."""

    code = "invalid_limit"


async def set_limit(
    session: Session, kind: str, *, running: int | None, rate: str | None, principal: Principal, client: Client
) -> None:
    """Let this limit hold instead of the one in the code; None lifts that part. The audit says who did it.

    Raises:
        NotFound: no worker has declared a limit of this kind.
        InvalidLimit: for a number or a rate that is no limit.
    """
    try:
        await limit_control.set_limit(session, kind, running=running, rate=rate, by=str(principal.user_id))
    except ValueError:
        raise InvalidLimit from None
    _audit(session, principal, client=client, kind=kind, running=running, rate=rate)


async def reset_limit(session: Session, kind: str, *, principal: Principal, client: Client) -> None:
    """Let the limit in the code hold again.

    Raises:
        NotFound: as `set_limit` does.
    """
    await limit_control.reset_limit(session, kind)
    [now] = await limit_control.limits(session, kind)
    _audit(session, principal, client=client, kind=kind, running=now.running, rate=now.rate)


def _audit(
    session: Session, principal: Principal, *, client: Client, kind: str, running: int | None, rate: str | None
) -> None:
    audit(
        session,
        Event.KIND_LIMITED,
        client=client,
        actor_id=principal.user_id,
        session_id=principal.session_id,
        kind=kind,
        max_running=running,
        rate=rate,
    )  # guard: test_who_limits_a_kind_is_audited
