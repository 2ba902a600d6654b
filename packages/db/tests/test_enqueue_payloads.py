"""The stored form of a payload, and the releases that can read it."""

from datetime import date
from typing import Any
from uuid import UUID

import pytest
from pydantic import ConfigDict, ValidationError

from app_db.jobs.payload import JobPayload, UnknownPayload, checked_json
from app_db.types import new_id


class Invoice(JobPayload):
    """Its first version stored dollars, the second a currency besides."""

    kind = "test.invoice"
    version = 3
    cents: int
    currency: str

    @classmethod
    def upgrade(cls, fields: dict[str, Any], version: int) -> dict[str, Any]:
        """Fill in what older code did not store."""
        if version == 1:
            fields["cents"] = fields.pop("dollars") * 100
        return {"currency": "USD", **fields}


class Strict(JobPayload):
    """A payload that takes no conversions."""

    kind = "test.strict"
    model_config = ConfigDict(strict=True)
    user_id: UUID
    day: date


def test_a_payload_of_this_version_is_read_as_it_was_stored() -> None:
    payload = Invoice.read({"cents": 5, "currency": "EUR"}, 3)

    assert payload == Invoice(cents=5, currency="EUR")


@pytest.mark.parametrize(("fields", "version"), [({"dollars": 7}, 1), ({"cents": 700}, 2)])
def test_yesterdays_payload_is_upgraded(fields: dict[str, Any], version: int) -> None:
    payload = Invoice.read(fields, version)

    assert payload == Invoice(cents=700, currency="USD")


def test_reading_a_payload_leaves_what_was_stored_alone() -> None:
    fields = {"dollars": 7}

    Invoice.read(fields, 1)

    assert fields == {"dollars": 7}


def test_a_payload_without_upgrades_keeps_its_fields() -> None:
    assert JobPayload.upgrade({"a": 1}, 1) == {"a": 1}


def test_a_payload_of_tomorrow_is_unknown() -> None:
    with pytest.raises(UnknownPayload, match=r"version 4, this code knows 3: deploy the newer worker"):
        Invoice.read({"cents": 5, "currency": "EUR"}, 4)


@pytest.mark.parametrize("fields", [{}, {"cents": "many", "currency": "EUR"}, {"cents": 5, "currency": "EUR", "to": 1}])
def test_a_stored_payload_that_does_not_validate_is_unknown(fields: dict[str, Any]) -> None:
    with pytest.raises(UnknownPayload, match=r"mend Invoice\.upgrade\(\), or discard the job"):
        Invoice.read(fields, 3)


def test_a_payload_whose_upgrade_fails_is_unknown() -> None:
    with pytest.raises(UnknownPayload, match=r"test\.invoice: what version 1 stored"):
        Invoice.read({"euros": 7}, 1)


def test_an_unknown_payload_is_reported_without_its_values() -> None:
    with pytest.raises(UnknownPayload) as error:
        Invoice.read({"cents": "a secret", "currency": "EUR"}, 3)

    assert "a secret" not in str(error.value)


def test_a_strict_payload_is_read_from_what_json_can_hold() -> None:
    payload = Strict(user_id=new_id(), day=date(2026, 3, 1))

    assert Strict.read({"user_id": str(payload.user_id), "day": "2026-03-01"}, 1) == payload


def test_a_payload_with_wrong_fields_is_refused() -> None:
    fields: dict[str, Any] = {"cents": "many"}

    with pytest.raises(ValidationError):
        checked_json(Invoice.model_construct(**fields))


def test_a_payload_that_json_cannot_hold_is_refused() -> None:
    fields: dict[str, Any] = {"cents": object(), "currency": "EUR"}

    with pytest.raises(ValueError, match="serialize"):
        checked_json(Invoice.model_construct(**fields))
