"""Payloads: the typed values of a job, and how they are stored in the ledger and read again."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, Unpack
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from app_db.jobs.bounds import SMALLINT, require_name
from app_db.jobs.fields import can_change_on_the_way, require_storable_fields
from app_db.jobs.jsonb import as_postgres_returns, difference
from app_db.jobs.limits import Limit, key_of, require_field

if TYPE_CHECKING:
    from pydantic.main import ReprArgs  # which pydantic names for type checkers only


class UnknownPayload(Exception):
    """This release cannot read a stored payload; the job is kept for a newer one."""


class JobPayload(BaseModel, frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True):
    """The contract between the caller of `enqueue` and the handler: one class per kind of job.

    Hold ids, not copies of rows: rows may change before the job runs. Never put secrets or addresses here, unless the
    class is `encrypted=True`: then the ledger keeps payload, result, steps and cursor in envelopes.

    Raises:
        TypeError: when the class is defined, for a field whose values JSON cannot return unchanged: a secret, an
            excluded field, an alias, an ordered dict.
        ValueError: when the class is defined, for a kind or version that cannot be stored.

    Example:
        class CloseAccount(JobPayload):
            kind = "accounts.close"  # waiting jobs have it: never rename it
            user_id: UUID
    """

    kind: ClassVar[str]
    """The stable name, as in `email.welcome`. Jobs store it: after a rename, waiting jobs have no handler."""
    version: ClassVar[int] = 1
    """Raise it when the fields change, and let `upgrade` read the payloads of waiting jobs.

    Deploy workers first: a worker that is older than a payload keeps the job and logs it, until a newer worker runs it.
    """
    can_change: ClassVar[bool] = True
    """Whether JSON or Postgres may change a value of this class; see `checked_json`."""
    is_encrypted: ClassVar[bool] = False
    """Whether its jobs are encrypted; a subclass is as its base, unless it says something else."""

    limited: ClassVar[Limit | None] = None
    """How many of its jobs may run at once, or in a time: `class CallVet(JobPayload, limit=Limit(running=2))`."""

    def __init_subclass__(
        cls, *, limit: Limit | None = None, encrypted: bool | None = None, **options: Unpack[ConfigDict]
    ) -> None:
        super().__init_subclass__(**options)
        if encrypted is not None:
            cls.is_encrypted = encrypted

    @classmethod
    def __pydantic_init_subclass__(cls, *, limit: Limit | None = None, **_: Any) -> None:  # Any: of pydantic
        if hasattr(cls, "kind"):  # the base class of several kinds has none
            require_name(cls.kind, f"the kind of {cls.__name__}")
        if not 1 <= cls.version < SMALLINT:
            raise ValueError(f"the version of {cls.__name__} is not between 1 and {SMALLINT - 1}")
        require_storable_fields(cls)
        cls.can_change = can_change_on_the_way(cls)
        if limit is not None:
            require_field(cls, limit)
            if cls.is_encrypted and limit.per in cls.model_fields:  # its key would have the value in a column
                raise TypeError(
                    f"{cls.__name__} is encrypted: a limit per {limit.per} would show it"
                )  # guard: test_an_encrypted_field_has_no_limit_of_its_own
        cls.limited = limit  # a subclass is another kind: it inherits no limit

    def __repr_args__(self) -> "ReprArgs":
        return () if self.is_encrypted else super().__repr_args__()  # guard: test_an_encrypted_payload_has_no_repr

    @classmethod
    def upgrade(cls, fields: dict[str, Any], version: int) -> dict[str, Any]:  # Any: JSON
        """Turn the fields of an older `version` into those of today. Override it when you raise `version`.

        It is called for older versions only, with a copy that it may change. It has no database: give new fields
        that cannot be derived a default.

        Example:
            class CloseAccount(JobPayload):
                kind = "accounts.close"
                version = 2
                user_id: UUID
                reason: str

                @classmethod
                def upgrade(cls, fields: dict[str, Any], version: int) -> dict[str, Any]:
                    return {"reason": "", **fields}  # version 1 had none

            assert CloseAccount.read({"user_id": str(ada.id)}, version=1).reason == ""
        """
        return fields

    @classmethod
    def read(cls, fields: Mapping[str, Any], version: int) -> Self:  # Any: JSON
        """Return the payload of `fields`, which were stored with `version`.

        Raises:
            UnknownPayload: when `version` is newer than this class, or the fields do not fit it.
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
        except Exception as error:  # `upgrade` may raise anything; the job is kept then too
            raise UnknownPayload(
                f"{cls.kind}: what version {version} stored cannot be read by version {cls.version}; mend "
                f"{cls.__name__}.upgrade(), or discard the job: {cls.why_not(error)}"
            ) from (None if cls.is_encrypted else error)

    @classmethod
    def why_not(cls, error: Exception) -> str:
        """Return why a payload was refused; of an encrypted one only the fields and the classes of the errors."""
        if not cls.is_encrypted:
            return str(error)
        if not isinstance(error, ValidationError):
            return type(error).__name__
        wrong = (
            (str(each["loc"][0]) if each["loc"] else "", each["type"]) for each in error.errors(include_input=False)
        )
        # The name of a field that is not there came with the payload.
        return ", ".join(f"{name if name in cls.model_fields else 'payload'}: {why}" for name, why in wrong)


def limit_key(payload: JobPayload, owner_id: UUID | None) -> str | None:
    """Return what the limit of a job counts by, for `jobs.limit_key`; None if its class has no limit."""
    return None if payload.limited is None else key_of(payload.kind, payload.limited, payload, owner_id)


def checked_json(payload: JobPayload) -> str:
    """Return the JSON of a payload, after checking that a worker reads an equal payload from it.

    Raises:
        pydantic.ValidationError: for wrong fields, which `model_construct` does not check.
        ValueError: for a value that JSON or Postgres cannot hold (a lone surrogate, U+0000, NaN) or would change: bytes
            and tuples in a field of type Any, fields of a subclass, two keys that are equal in JSON.
    """
    payload_class = type(payload)
    # Calls pydantic-core directly: the wrappers cost as much as the work, which is half the cost of `enqueue`.
    stored = payload_class.__pydantic_serializer__.to_json(payload, round_trip=True, warnings=False).decode()
    if r"\u0000" in stored and r"\u0000" in stored.replace(r"\\", ""):  # an escape, not the text "\u0000"
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
    if not payload.can_change:  # most payloads have plain values only
        now = restored.__dict__
        for name, value in payload.__dict__.items():
            if type(value) is not type(now[name]) or value != now[name]:
                break
        else:
            return ""
    return difference(payload, restored)
