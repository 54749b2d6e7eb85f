"""The commands ``run``, ``check``, ``explain``, ``help`` and ``completion``."""

from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

import goev
from goev import errors
from goev.cli import INTERRUPTED, checking, dev, helping, running
from goev.cli.options import GROUPS, OPTIONS, Option
from goev.cli.sources import Configuration, UsageError, configuration, suggestion

EXAMPLES = """\b
goev run chat:Chat --listen :8443 --tls-certificate cert.pem --tls-key key.pem --workers 4
goev run "web:make_app()" --listen unix:/run/site.sock --dev
goev run server.toml
"""


def main() -> int:
    """Run the command of ``sys.argv``; return the exit status. Wrong usage is one line and the status 2."""
    try:
        status = commands.main(prog_name="goev", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.NoSuchOption as error:
        flags = [flag for parameter in _command_of(error).params for flag in parameter.opts]
        text = f"there is no option {error.option_name}{suggestion(error.option_name, flags)}"
    except click.ClickException as error:
        text = error.format_message()
    except UsageError as error:
        text = str(error)
    except click.Abort:
        return INTERRUPTED
    click.echo(f"goev: {' '.join(text.split())}", err=True)
    return 2


def _command_of(error: click.UsageError) -> click.Command:
    return error.ctx.command if error.ctx is not None else commands


@click.group(
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": helping.WIDTH},
    invoke_without_command=True,
    epilog=EXAMPLES,
)
@click.version_option(goev.__version__, "--version", message="goev %(version)s")
@click.pass_context
def commands(context: click.Context) -> None:
    """Serve handlers of goev, ASGI and WSGI applications."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _complete(option: Option) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Make the function that lists the values of an option for a shell."""

    def complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        if option.kind.files:
            return [CompletionItem(incomplete, type="dir" if option.kind.label == "DIR" else "file")]
        return [CompletionItem(name) for name in option.kind.choices if name.startswith(incomplete)]

    return complete


def _complete_target(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


def _click_option(option: Option) -> click.Option:
    """The option as click parses it. Its value stays text, which ``sources`` reads like one of a variable."""
    if option.kind.is_switch:
        negative = "" if option.place == "dev" else f"/--no-{option.flag.removeprefix('--')}"
        return click.Option([option.flag + negative, option.name], is_flag=True, default=None, help=option.help)
    return click.Option(
        [option.flag, option.name],
        multiple=option.kind.is_list,
        type=str,
        metavar=option.kind.label,
        help=option.help,
        shell_complete=_complete(option),
    )


def _takes_options(command: click.Command) -> click.Command:
    command.params += [
        click.Argument(["target"], required=False, metavar="TARGET", shell_complete=_complete_target),
        *map(_click_option, OPTIONS.values()),
    ]
    commands.add_command(command)
    return command


def _configuration(target: str | None, values: dict[str, Any]) -> Configuration:
    """The configuration of a command line. Click gives ``None`` or ``()`` for an option that is not there."""
    given = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value is not None and value != ()
    }
    found = configuration(target, given)
    for warning in found.warnings:
        click.echo(f"goev: warning: {warning}", err=True)
    return found


def _right(found: Configuration) -> Configuration:
    """The configuration, if nothing is wrong with its options."""
    problems = checking.wrong_options(found)
    if problems:
        rest = f" ('goev check' tells of {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UsageError(problems[0] + rest)
    return found


@_takes_options
@click.command(cls=helping.RunCommand, short_help="Serve a target until SIGINT or SIGTERM.")
def run(target: str | None, **values: Any) -> int:
    """Serve TARGET: module:attribute, module:factory(), or a TOML file that names it."""
    if values["dev"] is None:
        found = _right(_configuration(target, values))
        if not found.value("dev"):
            return running.serve(found.settings())
    return dev.run(lambda: _right(_configuration(target, values)))


@_takes_options
@click.command(cls=helping.RunCommand, short_help="Say what is wrong with a target and its options.")
def check(target: str | None, **values: Any) -> int:
    """Import TARGET, check its options and read its files. Nothing is bound, nothing is served.

    The status is 0 if all is well and 1 if not.
    """
    found = _configuration(target, values)
    told = len(found.warnings)
    problems = checking.wrong_options(found) + checking.wrong_target(found)
    for warning in found.warnings[told:]:
        click.echo(f"goev: warning: {warning}", err=True)
    for problem in problems:
        *traceback, line = problem.split("\n")
        click.echo("\n".join([*traceback, f"goev: {line}"]), err=True)
    if problems:
        return 1
    click.echo(f"goev: {target or found.target} is right")
    return 0


@commands.command("help", short_help="Explain a group of options.")
@click.argument("group", required=False, type=click.Choice(list(GROUPS)), metavar="GROUP")
def help_(group: str | None) -> None:
    """Explain the options of GROUP; without it, list the groups."""
    click.echo(helping.group_page(group) if group else helping.groups_page())


def _complete_code(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    codes = errors.codes().items()
    return [CompletionItem(code, help=title) for code, title in codes if code.startswith(incomplete.upper())]


@commands.command(short_help="Explain the code of an error, such as GOEV101.")
@click.argument("code", required=False, shell_complete=_complete_code)
def explain(code: str | None) -> None:
    """Explain CODE, which stands at the end of an error's message; without it, list the codes."""
    if code is None:
        click.echo(helping.codes_page(errors.codes()))
        return
    try:
        click.echo(errors.explain(code), nl=False)
    except KeyError:
        raise UsageError(f"there is no code {code}; 'goev explain' lists all") from None


@commands.command(short_help="Print a script that completes goev in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="bash|zsh|fish")
def completion(shell: str) -> None:
    """Print the script that completes goev on the command line of SHELL."""
    cls = get_completion_class(shell)
    assert cls is not None  # click has all three
    click.echo(cls(commands, {}, "goev", "_GOEV_COMPLETE").source())
