"""``python -m goev`` and the program ``goev``."""

import sys


def main() -> int:
    """Run the command line; return the exit status."""
    try:
        import click  # noqa: F401
    except ModuleNotFoundError:
        print("goev: the command line needs click: pip install 'goev[cli]'", file=sys.stderr)
        return 2
    from goev.cli.commands import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
