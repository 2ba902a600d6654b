"""What a job is asked to do, and how it survives in the ledger until somebody does it."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel

from app_db.jobs.bounds import SMALLINT, require_name
from app_db.jobs.fields import can_change_on_the_way, require_storable_fields
from app_db.jobs.jsonb import as_postgres_returns, difference


class UnknownPayload(Exception):
    """A stored payload that this code cannot read: keep the job for code that can."""


class JobPayload(BaseModel, frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True):
    """The contract between who enqueues a job and the handler that runs it: one class per kind of job.

    Hold ids, not copies: by the time the job runs, the row is the truth. Never put secrets or addresses here.

    Raises:
        TypeError: when the class is made, for a kind or version that cannot be stored, and for a field that could not
            arrive as it was given: a secret, one that is excluded or has another name in JSON, an ordered dict.
    """

    kind: ClassVar[str]
    """The stable name, as in `email.welcome`. It is stored: renaming it orphans jobs that wait."""
    version: ClassVar[int] = 1
    """Raise it when the fields change, and teach `upgrade` to read what waits from before.

    Workers first: one that is older than a payload keeps the job and reports it, until a newer worker runs it.
    """
    can_change: ClassVar[bool] = True
    """Whether some value of this class is turned into another one by JSON or by Postgres; see `checked_json`."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:  # Any: of pydantic
        if hasattr(cls, "kind"):  # a base of several kinds has none
            require_name(cls.kind, f"the kind of {cls.__name__}")
        if not 1 <= cls.version < SMALLINT:
            raise ValueError(f"the version of {cls.__name__} is not between 1 and {SMALLINT - 1}")
        require_storable_fields(cls)
        cls.can_change = can_change_on_the_way(cls)

    @classmethod
    def upgrade(cls, fields: dict[str, Any], version: int) -> dict[str, Any]:  # Any: JSON
        """Turn the fields that an older `version` stored into today's. Override it when you raise `version`.

        Called only for versions below today's, with a copy that may be changed. It has no database: give what cannot
        be derived a default.
        """
        return fields

    @classmethod
    def read(cls, fields: Mapping[str, Any], version: int) -> Self:  # Any: JSON
        """Return the payload that was stored as `fields` by code at `version`.

        Raises:
            UnknownPayload: when `version` is newer than this code, or the fields are not what this class takes.
        """
        if version > cls.version:
            raise UnknownPayload(
                f"{cls.kind} was stored with version {version}, this code knows {cls.version}: deploy the newer worker"
            )
        try:
            if version < cls.version:
                fields = cls.upgrade(dict(fields), version)  # guard: test_yesterdays_payload_is_upgraded
            # As JSON: in Python mode a strict class would refuse the text of a UUID or a date.
            return cls.model_validate_json(json.dumps(fields))
        except Exception as error:  # an upgrade that fails is as good a reason to keep the job
            raise UnknownPayload(
                f"{cls.kind}: what version {version} stored cannot be read by version {cls.version}; mend "
                f"{cls.__name__}.upgrade(), or discard the job: {error}"
            ) from error


def checked_json(payload: JobPayload) -> str:
    """Return the JSON of a payload after reading it back: what a worker will read equals it, by value and by class.

    Raises:
        pydantic.ValidationError: when it has wrong fields, as one made by `model_construct` may.
        ValueError: when it holds what JSON or Postgres cannot (half a character, U+0000, NaN), or turns into something
            else: bytes and tuples in a field of type Any, fields of a subclass, two keys that are one in JSON.
    """
    payload_class = type(payload)
    # By way of pydantic's core: its wrappers cost as much as the work, and this is half the price of a job.
    stored = payload_class.__pydantic_serializer__.to_json(payload, round_trip=True, warnings=False).decode()
    if r"\u0000" in stored and r"\u0000" in stored.replace(r"\\", ""):  # in a text or a key, and not spelled out
        raise ValueError(
            f"{payload.kind}: a text holds U+0000, which Postgres does not keep"
        )  # guard: test_a_payload_that_postgres_cannot_hold_is_refused_before_it_is_sent
    returned = as_postgres_returns(stored) if payload_class.can_change else stored
    restored = payload_class.__pydantic_validator__.validate_json(
        returned
    )  # guard: test_a_payload_with_wrong_fields_is_refused
    if changed := _change(payload, restored):
        raise ValueError(
            f"{payload.kind}: {changed}: JSON in Postgres cannot keep it"
        )  # guard: test_a_payload_that_would_arrive_as_something_else_is_refused
    return stored


def _change(payload: JobPayload, restored: JobPayload) -> str:
    if not payload.can_change:  # plain values: most payloads
        now = restored.__dict__
        for name, value in payload.__dict__.items():
            if type(value) is not type(now[name]) or value != now[name]:
                break
        else:
            return ""
    return difference(payload, restored)
