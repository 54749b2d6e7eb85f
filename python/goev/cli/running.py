"""The one place where the command line begins a service."""

from importlib import import_module

from goev.service.settings import Settings


def serve(settings: Settings) -> int:
    """Serve until the end; return the exit status."""
    status: int = import_module("goev.service").run(settings)  # here, because --help and check need no supervisor
    return status
