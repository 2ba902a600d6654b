"""What a job is asked to do, and how it survives in the ledger until somebody does it."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel


class UnknownPayload(Exception):
    """A stored payload that this code cannot read: keep the job for code that can."""


class JobPayload(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """The contract between who enqueues a job and the handler that runs it: one class per kind of job.

    Hold ids, not copies: by the time the job runs, the row is the truth. Never put secrets or addresses here.
    """

    kind: ClassVar[str]
    """The stable name, as in `email.welcome`. It is stored: renaming it orphans jobs that wait."""
    version: ClassVar[int] = 1
    """Raise it when the fields change, and teach `upgrade` to read what waits from before.

    Workers first: one that is older than a payload keeps the job and reports it, until a newer worker runs it.
    """

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
    """Return the JSON of a payload after reading it back, so that nothing is stored that no worker could read.

    Raises:
        pydantic.ValidationError: when it has wrong fields, as one made by `model_construct` may.
        ValueError: when it holds what JSON or Postgres cannot: half a character, U+0000.
    """
    stored = payload.model_dump_json(round_trip=True, warnings=False)
    if r"\u0000" in stored.replace(r"\\", ""):  # in a text or a key, and not spelled out after a backslash
        raise ValueError(
            f"{payload.kind}: a text holds U+0000, which Postgres does not keep"
        )  # guard: test_a_payload_that_postgres_cannot_hold_is_refused_before_it_is_sent
    type(payload).model_validate_json(stored)  # guard: test_a_payload_with_wrong_fields_is_refused
    return stored
