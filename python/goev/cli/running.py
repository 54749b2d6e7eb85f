"""The one place where the command line begins a service."""

import sys
from importlib import import_module

from goev.service.settings import Settings

REFUSED = 2  # the exit status when the service cannot begin


def serve(settings: Settings) -> int:
    """Serve until the end; return the exit status. A service that cannot begin, since an address is taken say, is
    one line."""
    # Here, because --help and check need no supervisor.
    supervisor = import_module("goev.service.supervisor").Supervisor
    try:
        begun = supervisor.of(settings)
    except (OSError, TypeError, ValueError, ModuleNotFoundError) as error:
        print(f"goev: {' '.join(str(error).split())}", file=sys.stderr)
        return REFUSED
    status: int = begun.run()
    return status
