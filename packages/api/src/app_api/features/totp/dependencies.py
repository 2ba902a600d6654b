"""The dependencies of these routes and pages."""

from typing import Annotated

from fastapi import Depends

from app_api.resources import resource
from app_auth.features.totp.vault import Vault

VaultDep = Annotated[Vault, Depends(resource(Vault))]
"""What opens and seals secrets of generators."""
