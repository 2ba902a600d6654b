"""Machines, which act for their user by a key instead of a sign-in (ADR-0067)."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

from app_auth.auth import Auth
from app_auth.client import Client
from app_auth.principal import Caller, Principal
from app_db import Database, Session
from app_db.errors import Forbidden

PREFIX = "gw_"
"""How the text of each key begins."""


class KeyNotAccepted(Forbidden):
    """This needs a person who is signed in: no key for machines opens it."""

    code = "key_not_accepted"


class InsufficientScope(Forbidden):
    """The key lacks the scope that this needs."""

    code = "insufficient_scope"

    def __init__(self, scope: str) -> None:
        super().__init__()
        self.scope = scope

    @property
    def members(self) -> dict[str, Any]:  # Any: JSON
        """The scope that is needed."""
        return {"required_scope": self.scope}


@dataclass(frozen=True, slots=True)
class Machine(Caller):
    """A machine that acts by a key. It has no session, and its role is `user`, whatever its user's is.

    So it is no operator, and mypy refuses it to each service that needs a sign-in, which takes a `Principal`.
    """

    key_id: UUID
    key_name: str
    scopes: frozenset[str]
    expires_at: datetime


class MachineKeys(ABC):
    """Recognises machines. A feature provides it as a resource; without one no key is accepted."""

    @abstractmethod
    async def recognise(self, auth: Auth, database: Database, *, token: str, client: Client) -> Machine:
        """Return the machine of a key, by one query.

        Raises:
            InvalidToken: the key is not ours, was revoked or has expired, or its user is disabled.
            Throttled: too many wrong keys from this client, or too many requests with this key.
        """

    @abstractmethod
    async def alive(self, session: Session, key_ids: Collection[UUID]) -> Collection[UUID]:
        """Return which of these keys are accepted still, by one query: for requests that last."""


class Traces(TypedDict, total=False):
    """What a row of the audit says of who acted."""

    session_id: UUID
    key: str


def traces_of(caller: Caller) -> Traces:
    """Return what a row of the audit says of who acted: the session of a person, or the key of a machine.

    Example:
        audit(session, Event.EXPORT_REQUESTED, client=client, user_id=caller.user_id, **traces_of(caller))
    """
    match caller:
        case Principal():
            return {"session_id": caller.session_id}
        case Machine():
            return {"key": str(caller.key_id)}  # guard: test_the_audit_tells_a_key_from_a_person
        case _:
            return {}
