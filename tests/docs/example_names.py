"""Names that the examples in docstrings may use besides those of their modules: imports and sample classes."""
# ruff: noqa: F401  # the examples use them

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import pytest
from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict
from sqlalchemy import bindparam, select, update

from app_api.app import create_app
from app_api.dependencies import (
    AuthDep,
    ClientDep,
    CursorDep,
    DatabaseDep,
    LimitDep,
    OperatorDep,
    OptionalPrincipalDep,
    PrincipalDep,
    ReplicaSessionDep,
    SessionDep,
)
from app_api.paging import Page
from app_auth import sessions
from app_auth.errors import EmailTaken
from app_auth.testing import MakeAccount
from app_db import Database, Session
from app_db.features.accounts.payloads import WelcomeEmail
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs import control
from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload
from app_db.models import Job, Role, User
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.repositories.users import UserRepository
from app_db.testing.jobs import assert_enqueued
from app_db.testing.plugin import MakeUser
from app_db.types import new_id, utcnow
from app_runtime.resources import Opened
from app_runtime.valkey import ValkeySettings
from app_worker.context import JobContext
from app_worker.delivery_queue import connect
from app_worker.registry import Handler, Mode, handles


class EndSessions(JobPayload):
    """End all login sessions of a user."""

    kind = "sessions.end_all"
    user_id: UUID


class CloseAccount(JobPayload):
    """Close an account."""

    kind = "accounts.close"
    user_id: UUID


class Vet:
    """An external service."""

    async def call(self, user_id: UUID, *, headers: Mapping[str, str] | None = None) -> None:
        """Call it about a user."""


class FakeVet(Vet):
    """Counts how often it is called."""

    def __init__(self) -> None:
        self.calls = 0

    async def call(self, user_id: UUID, *, headers: Mapping[str, str] | None = None) -> None:
        """Count the call."""
        self.calls += 1


async def vets() -> AsyncIterator[Vet]:
    """Open the client of a vet."""
    yield Vet()


class CallVet(JobPayload):
    """Call the vet."""

    kind = "pets.call_vet"


@handles(EndSessions)
async def end_sessions(job: JobContext, payload: EndSessions) -> None:
    """End all login sessions of the user."""
    await UserSessionRepository(job.session).end_all(payload.user_id)


@handles(CloseAccount)
async def close_account(job: JobContext, payload: CloseAccount) -> None:
    """Do nothing."""


@handles(CallVet, mode=Mode.LEASE)
async def call_vet(job: JobContext, payload: CallVet, vet: Vet) -> None:
    """Call the vet once."""
    await vet.call(new_id())


class UserRead(BaseModel):
    """A user on the wire."""

    model_config = ConfigDict(from_attributes=True)

    email: str


class UserPage(Page[UserRead]):
    """Users, newest first."""
