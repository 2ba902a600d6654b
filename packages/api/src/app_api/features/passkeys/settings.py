"""`APP_PASSKEYS__…`: the domain of passkeys, and how many an account may have."""

from typing import Annotated, Self

from pydantic import AnyHttpUrl, BaseModel, Field, model_validator

from app_api.settings import Origin
from app_auth.features.passkeys.relying_party import RelyingParty


class PasskeySettings(BaseModel, frozen=True):
    """`APP_PASSKEYS__…`. A passkey is worthless for any other domain, so changing that takes all of them away."""

    origins: tuple[Origin, ...] = ()
    """Pages that may use passkeys, with https; that of `APP_PUBLIC_BASE_URL` if empty."""
    rp_id: Annotated[str, Field(max_length=253)] = ""
    """Their domain, or one above it; that of the first of the origins if empty."""
    name: Annotated[str, Field(min_length=1, max_length=64)] = "Groundwork"
    """What browsers may show with a passkey."""
    per_account: Annotated[int, Field(ge=1, le=100)] = 20
    """Passkeys of one account."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rp_id and not self.origins:
            raise ValueError("APP_PASSKEYS__RP_ID: needs APP_PASSKEYS__ORIGINS")
        try:
            self.party(None)
        except ValueError as error:
            raise ValueError(f"APP_PASSKEYS__ORIGINS or APP_PASSKEYS__RP_ID: {error}") from None
        return self

    def party(self, reached_at: AnyHttpUrl | None) -> RelyingParty | None:
        """Return the relying party, by default that of the address that people reach; None if browsers allow none."""
        if self.origins:
            return RelyingParty.of(self.origins, domain=self.rp_id, name=self.name)
        return RelyingParty.at(reached_at, name=self.name)
