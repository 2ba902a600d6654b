"""Errors of servers that do not start; every message says at its end what to do."""


class ServerError(Exception):
    """A server cannot run."""


class ServerDied(ServerError):
    """The server ended while it started; the message has the end of its log."""


class FolderInUse(ServerError):
    """Another living process runs a server on this folder."""


class PortTaken(ServerError):
    """Someone listens on the port that was asked for."""


class WrongPostgresVersion(ServerError):
    """The programs or the data folder are of a major version that does not fit."""
