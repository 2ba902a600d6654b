"""The dependencies of routes about passkeys."""

from typing import Annotated

from fastapi import Depends, Request

from app_api.features.passkeys.settings import PasskeySettings
from app_api.resources import resource
from app_auth.features.passkeys.errors import PasskeysUnavailable
from app_auth.features.passkeys.relying_party import RelyingParty

PasskeySettingsDep = Annotated[PasskeySettings, Depends(resource(PasskeySettings))]
"""The settings of passkeys.

Example:
    @router.get("/passkeys/limit")
    async def read_limit(settings: PasskeySettingsDep) -> int:
        return settings.per_account
"""


async def get_party(request: Request, settings: PasskeySettingsDep) -> RelyingParty:
    """Return the relying party of this application.

    Raises:
        PasskeysUnavailable: browsers allow no passkeys at the address of the settings.
    """
    party = settings.party(request.state.reached_at)
    if party is None:
        raise PasskeysUnavailable
    return party


PartyDep = Annotated[RelyingParty, Depends(get_party)]
"""The domain and the pages that passkeys are for; where browsers allow none, the answer is a 404.

Example:
    @router.get("/passkeys/domain")
    async def read_domain(party: PartyDep) -> str:
        return party.id
"""
