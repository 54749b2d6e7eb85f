"""``goev run`` and the other commands: the command line of the package, with the extra ``goev[cli]``.

``options`` is the one table of options. The command line, the environment, TOML files, the help and ``docs/cli.md``
come from it. ``sources`` finds the values, ``checking`` finds errors in them, ``commands`` has the commands of click.
"""

INTERRUPTED = 130  # the exit status after a Ctrl-C, as of shells
