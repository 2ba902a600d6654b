"""How asking a provider fails."""

from app_db.errors import Conflict, Unavailable


class ProviderUnavailable(Unavailable):
    """The provider does not answer as it should right now. Try again in a moment, or sign in another way."""

    code = "provider_unavailable"
    retry_after = 5


class FetchedAhead(Unavailable):
    """Your browser has fetched this page ahead of your visit. It answers when you visit it."""

    code = "fetched_ahead"


class ClientCallbackMissing(Conflict):
    """Nobody has said where providers send the users of your front end back to: APP_PROVIDERS__CLIENT_CALLBACK."""

    code = "client_callback_missing"
