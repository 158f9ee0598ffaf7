"""What every verb shares: --home, --json and --quiet before or after the verb, opening the authority, and asking for the passphrase."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..config import default_home
from ..errors import Refused
from . import say

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ..authority.authority import Authority

F = TypeVar("F", bound=Callable[..., Any])


class Session:
    """What was said for the whole run."""

    def __init__(self) -> None:
        self.home: Path | None = None
        self.json = False
        self.quiet = False
        self.passphrase_file: Path | None = None
        self.finished = ""  # what stands by now, whatever interrupts the rest

    @property
    def place(self) -> Path:
        """The home: told, GATEKEY_HOME, or the platform's per-user data folder."""
        return self.home or (Path(os.environ["GATEKEY_HOME"]) if os.environ.get("GATEKEY_HOME") else default_home())

    def words(self, text: str = "") -> None:
        say.words(text, quiet=self.quiet)

    def authority(self, *, writing: bool = False) -> Authority:
        """Opens the authority; for a verb that writes, what earlier runs left half done is closed first."""
        from .. import app, config

        said = config.load(self.place)
        found = app.passphrase_file(self.passphrase_file, said.passphrase_file)
        authority = app.open_authority(said, passphrase=app.passphrase_in(found) if found else ask_passphrase)
        if writing:
            from ..authority.reconcile import catch_up, clock_problem, reconcile

            if wrong := clock_problem(authority):
                say.warn(wrong)
            for abandoned in reconcile(authority):
                self.words(f"an issuance that was interrupted was closed: {abandoned.serial} of {abandoned.issuer} was never signed")
            done, owed = catch_up(authority)
            for sentence in done:
                self.words(f"the web servers were behind the ledger: {sentence}")
            for sentence in owed:
                say.warn(f"the web servers do not know all that the ledger knows: {sentence}")
        return authority


def ask_passphrase() -> bytes:
    """Asks on a terminal; elsewhere says how to give it."""
    from ..app import no_passphrase

    if not sys.stdin.isatty():
        return no_passphrase()
    import getpass

    return getpass.getpass("passphrase of the authority's keys: ").encode()


def ask_new_passphrase() -> bytes:
    """Asks twice on a terminal. Raises Refused when the two differ or it is short."""
    import getpass

    from ..model import passwords

    first = getpass.getpass("new passphrase for the keys: ")
    passwords.chosen(first.encode())
    if getpass.getpass("once more: ") != first:
        raise Refused("passphrase-differs", "the two passphrases are not the same", hint="try again")
    return first.encode()


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(ctx: click.Context, _: click.Parameter, value: Any) -> None:
        if value not in (None, False):
            setattr(ctx.ensure_object(Session), name, value)

    return callback


def _global_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--home"],
            type=click.Path(path_type=Path, readable=False),
            expose_value=False,
            callback=_keep("home"),
            is_eager=True,
            help="Where the authority lives (or GATEKEY_HOME).",
            metavar="DIR",
        ),
        click.Option(["--json"], is_flag=True, expose_value=False, callback=_keep("json"), is_eager=True, help="Results as JSON."),
        click.Option(["--quiet", "-q"], is_flag=True, expose_value=False, callback=_keep("quiet"), is_eager=True, help="No talk, only results."),
    ]


class Verb(click.Command):
    """A command that takes the global options too, and shows help as it was written."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(_global_options())


class Family(click.Group):
    """Verbs whose files are read only when they are used. `lazy`: verb -> (module, function, one line of help)."""

    command_class = Verb

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str, str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy or {}
        self.params.extend(_global_options())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            say.words(ctx.get_help())
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.lazy, *(name for name in super().list_commands(ctx) if name not in self.lazy)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        import importlib

        module, function, _ = self.lazy[cmd_name]
        command = getattr(importlib.import_module(f"gatekey.cli.{module}"), function)
        assert isinstance(command, click.Command)  # noqa: S101  our own table
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """A Tab reads no verb's file: the table knows their names."""
        if not self.lazy:
            return super().shell_complete(ctx, incomplete)
        from click.shell_completion import CompletionItem

        verbs = [CompletionItem(name, help=help_) for name, (_, _, help_) in self.lazy.items() if name.startswith(incomplete)]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing:
            import difflib

            near = difflib.get_close_matches(name, self.list_commands(ctx), 1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(self.list_commands(ctx))}"
            ctx.fail(f"there is no {ctx.command_path} {name}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(ctx):
            if name in self.lazy:
                rows.append((name, self.lazy[name][2]))
            elif command := super().get_command(ctx, name):
                rows.append((name, command.get_short_help_str(90)))
        with formatter.section("Verbs"):
            formatter.write_dl(rows)


pass_session = click.make_pass_decorator(Session, ensure=True)


def passphrase_option(function: F) -> F:
    """--passphrase-file, for verbs that may open a key."""
    return click.option(
        "--passphrase-file",
        type=click.Path(path_type=Path, readable=False),
        expose_value=False,
        callback=_keep("passphrase_file"),
        metavar="F",
        help="A file whose first line is the passphrase of the keys.",
    )(function)


def key_password_option(function: F) -> F:
    """--key-password-file, for verbs that read somebody's private key."""
    return click.option("--key-password-file", type=click.Path(path_type=Path), metavar="F", help="With --key: a file whose first line is its password.")(
        function
    )


def refuse_without(given: dict[str, object], needed: str) -> None:
    """Refuses options that would say nothing here. `given`: option -> its value; `needed`: with what they go."""
    if idle := [option for option, value in given.items() if value]:
        raise click.UsageError(f"{' and '.join(idle)} {'goes' if len(idle) == 1 else 'go'} with {needed}")


def out_option(function: F) -> F:
    """--out for verbs that write several files, and --force."""
    force = click.option("--force", is_flag=True, help="Overwrite files that exist.")(function)
    return click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path(),
        metavar="DIR",
        callback=no_stdout,
        help="The folder for the files (default: here).",
    )(force)


def no_stdout(_: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Refuses `-` where files are made: a folder of that name would be a surprise."""
    if str(value) == "-":
        raise click.BadParameter("these are files and do not go to stdout; a file or folder that is called so is ./-", param=param)
    return value
