"""The errors of signing in by a mailed link."""

from app_db.errors import BadRequest, Forbidden


class SignInByLinkOff(Forbidden):
    """Nobody signs in by a mailed link here."""

    code = "sign_in_by_link_off"


class AskedElsewhere(BadRequest):
    """Open the link where you have asked for it: in the same browser, or with the secret that the answer had."""

    code = "asked_elsewhere"
