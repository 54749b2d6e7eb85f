"""``python -m goev`` and the program ``goev``."""

import sys

from goev.cli import INTERRUPTED


def main() -> int:
    """Run the command line; return the exit status. A Ctrl-C before it has begun, while it is imported, is no error."""
    try:
        return _main()
    except KeyboardInterrupt:
        return INTERRUPTED


def _main() -> int:
    try:
        import click  # noqa: F401
    except ModuleNotFoundError:
        print("goev: the command line needs click: pip install 'goev[cli]'", file=sys.stderr)
        return 2
    from goev.cli.commands import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
