"""The parameters of a Postgres URL: asyncpg does not know all parameters of libpq, which providers use.

asyncpg sends an unknown parameter to the server as a setting, and the server refuses the connection, not before the
first query. So each parameter is accepted, or refused by its name at the start.
"""

from collections.abc import Mapping

from sqlalchemy import URL

from app_runtime.urls import refuse_parameter

_HOSTS = frozenset({"host", "port", "target_session_attrs"})
"""`app_db.hosts` reads these; `app_db.tls` compares parameters that begin with `ssl` with APP_DATABASE__TLS."""

# Values that ask for the default behaviour, of parameters that asyncpg does not know: left out.
_GRANTED: Mapping[str, frozenset[str]] = {
    "channel_binding": frozenset({"disable", "prefer"}),
    "gssencmode": frozenset({"disable", "prefer"}),
    "keepalives": frozenset({"1"}),
    "client_encoding": frozenset({"auto", "utf8", "utf-8"}),
    "load_balance_hosts": frozenset({"disable"}),
}

_CREDENTIALS = "user, password and database go before the ?"
_ROLE = "give the role what it sets: ALTER ROLE … SET …"
_OURS = "what keeps a connection alive is decided here: take it out"
_POOLER = "see PgBouncer in docs/how-to/operations.md, and take it out"
_INSTEAD: Mapping[str, str] = {
    "channel_binding": "it is not spoken; APP_DATABASE__TLS=verify-full proves who the server is",
    "gssencmode": "encryption by GSSAPI is not spoken; APP_DATABASE__TLS is",
    "require_auth": "which method is used is for the server to say (pg_hba.conf)",
    "requiressl": "APP_DATABASE__TLS decides",
    "connect_timeout": "APP_DATABASE__CONNECT_TIMEOUT is the setting",
    "command_timeout": "APP_DATABASE__COMMAND_TIMEOUT is the setting",
    "statement_timeout": "APP_DATABASE__STATEMENT_TIMEOUT is the setting",
    "lock_timeout": "APP_DATABASE__LOCK_TIMEOUT is the setting",
    "connection_limit": "APP_DATABASE__POOL_SIZE and READ_POOL_SIZE are the settings",
    "pool_timeout": "APP_DATABASE__POOL_TIMEOUT is the setting",
    "pgbouncer": _POOLER,
    "prepared_statement_cache_size": _POOLER,
    "statement_cache_size": _POOLER,
    "options": "give the role what it sets: ALTER ROLE … SET …; a provider's endpoint is in the name of its host (SNI)",
    "schema": _ROLE,
    "search_path": _ROLE,
    "application_name": "each of our connections has a name already: take it out",
    "fallback_application_name": "each of our connections has a name already: take it out",
    "client_encoding": "it is UTF-8: take it out",
    "load_balance_hosts": "which host is asked is decided by target_session_attrs",
    **dict.fromkeys(("user", "username", "password", "passfile", "dbname", "database", "service"), _CREDENTIALS),
    **dict.fromkeys(("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"), _OURS),
    "tcp_user_timeout": _OURS,
}


def without_granted(url: URL) -> URL:
    """Return a Postgres URL without the parameters that ask for the default behaviour.

    Raises:
        ValueError: names an unknown parameter, and what to do instead; no value is shown.
    """
    query = url.normalized_query
    for name, values in query.items():
        if name in _GRANTED and _GRANTED[name].issuperset(value.lower() for value in values):
            continue
        if name not in _HOSTS and not name.startswith("ssl"):
            refuse_parameter(name, _INSTEAD)  # guard: test_a_parameter_that_asyncpg_does_not_know_is_refused_by_name
        if name == "target_session_attrs" and len(values) > 1:
            raise ValueError("names target_session_attrs more than once")
    return url.difference_update_query(_GRANTED)
