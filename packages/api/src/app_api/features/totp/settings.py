"""`APP_TOTP__…`: the keys that seal the secrets of generators."""

from pydantic import BaseModel

from app_auth.settings import KeyRing


class TotpSettings(BaseModel, frozen=True, hide_input_in_errors=True):
    """Without keys nobody turns a second factor on, and who has one cannot sign in until there are keys again."""

    keys: KeyRing | None = None
    """For secrets of generators and recovery codes; if absent, one-time codes cannot be turned on."""
