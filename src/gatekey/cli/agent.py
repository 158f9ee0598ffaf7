"""`gatekey agent`: the web server's helper, which brings what the authority publishes to the server."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from ..errors import Misconfigured, NotFound
from ..ports import SystemClock
from ..webserver import agent_config
from ..webserver.agent_server import KINDS
from . import say
from .session import Family, Session, Verb, pass_session

if TYPE_CHECKING:
    from ..webserver.agent_config import Config
    from ..webserver.agent_source import Source
    from ..webserver.agent_status import Status

F = TypeVar("F", bound=Callable[..., object])

#: sd-daemon(3): how journald tells the levels apart.
_LEVELS = {"info": "<6>", "warning": "<4>", "error": "<3>"}


class _Agent(Family):
    """A family that also does something without a further word."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return click.Group.parse_args(self, ctx, args)


def _config_option(function: F) -> F:
    return click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="F",
        help=f"Its configuration (default: {agent_config.DEFAULT}).",
    )(function)


@click.group("agent", cls=_Agent, invoke_without_command=True)
@_config_option
@click.option("--once", is_flag=True, help="Bring what is there now, and end; exit code 1 also when a CRL is about to run out.")
@click.option("--accept-older", is_flag=True, help="With --once: take a bundle that is older than the one in force (the authority was set back).")
@click.option("--accept-root", metavar="SHA256", help="With --once: from now on believe the root with this fingerprint, too.")
@pass_session
@click.pass_context
def agent(ctx: click.Context, session: Session, config_file: Path | None, once: bool, accept_older: bool, accept_root: str | None) -> None:
    """The web server's helper: bring what the authority publishes to the server.

    It watches the published folder, checks everything (chain, CRLs, deny lists, that nothing is played back), switches the web server's files as a
    whole, has the server test them and reloads it: a revocation counts half a second later. If anything is wrong the old files stay, and it says why.

    \b
      gatekey agent example nginx > /etc/gatekey/agent.toml
      gatekey agent unit > /etc/systemd/system/gatekey-agent.service
      gatekey agent status
    """
    ctx.meta["agent"] = config_file
    if ctx.invoked_subcommand:
        if once or accept_older or accept_root:
            raise click.UsageError(f"--once and what belongs to it do not go with {ctx.invoked_subcommand}")
        return
    if (accept_older or accept_root) and not once:
        raise click.UsageError("--accept-older and --accept-root go with --once; the service need not be stopped for it")
    raise click.exceptions.Exit(_run(session, _load(ctx, None), once, accept_older, accept_root))


def _load(ctx: click.Context, given: Path | None) -> Config:
    return agent_config.load(given or ctx.meta["agent"] or agent_config.DEFAULT)


def _run(session: Session, config: Config, once: bool, older: bool, root: str | None) -> int:
    if os.name != "posix":
        raise Misconfigured("agent-cannot", "the agent runs on Linux and other POSIX systems", hint="gatekey bundle --out DIR writes the files anywhere")
    from ..webserver.agent import Agent, Allowed, serve, tell

    allowed = Allowed(older, agent_config.fingerprint(root) if root else "")
    source = _source(config, session)
    worker = Agent(config, source, SystemClock().now, _log(session), service=not once, ready=lambda: _notify("READY=1\n"))
    try:
        if not once:
            return serve(worker, source, _notify)
        problem = worker.settle(allowed, asked=True)
        tell(worker.status, source)
        if session.json:
            say.as_json(worker.status.as_dict())
        if problem:
            return problem.exit_code
        return 1 if worker.status.warning else 0
    finally:
        source.close()


def _source(config: Config, session: Session) -> Source:
    """A folder, or the service."""
    if isinstance(config.source, Path):
        from ..webserver.agent_source import Folder

        return Folder(config.source)
    from ..ports import SystemEntropy
    from ..webserver.agent_network import Service

    return Service(config.source, SystemClock().now, SystemEntropy().bytes, _log(session))


def _log(session: Session) -> Callable[[str, str], None]:
    in_journal = "JOURNAL_STREAM" in os.environ

    def log(level: str, sentence: str) -> None:
        if level != "info" or not session.quiet:
            print(f"{_LEVELS[level] if in_journal else ''}gatekey agent: {sentence}", file=sys.stderr, flush=True)

    return log


def _notify(text: str) -> None:
    """Tells systemd how it goes (sd_notify(3)); nothing where nobody listens."""
    import contextlib
    import socket

    if place := os.environ.get("NOTIFY_SOCKET"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.sendto(text.encode(), f"\0{place[1:]}" if place.startswith("@") else place)


@agent.command("status", cls=Verb)
@_config_option
@pass_session
@click.pass_context
def status(ctx: click.Context, session: Session, config_file: Path | None) -> None:
    """What is in force at the web server, since when, and what is wrong. Exit code 1 if anything is."""
    from ..webserver import agent_status as statuses

    config = _load(ctx, config_file)
    found = statuses.read(config.status)
    if found is None:
        hint = "start the agent, or run gatekey agent --once"
        raise NotFound("no-agent-status", f"no agent has written {config.status} yet", hint=hint, path=str(config.status))
    now = SystemClock().now()
    silent = now - int(config.status.stat().st_mtime) if found.service else 0
    found = _as_of_now(found, now)
    gone = silent > statuses.SILENT
    if session.json:
        say.as_json({**found.as_dict(), "silent_for": silent})
    else:
        _tell(found, f"the agent has not been heard of for {silent // 60} minutes" if gone else "")
    raise click.exceptions.Exit(1 if gone or found.health != "ok" else 0)


def _as_of_now(found: Status, now: int) -> Status:
    """An agent that ended long ago could not write that a CRL has run out since."""
    over = found.fresh_until and found.fresh_until <= now
    return found._replace(warning=f"a CRL that is in force has run out: {found.server} refuses everybody") if over else found


def _tell(found: Status, gone: str) -> None:
    from ..model.instants import iso

    def line(name: str, text: str) -> None:
        say.result(f"{name:<12}{text}")

    line("health", found.health)
    line("server", found.server)
    line("in force", f"revocation {found.serving_number} since {iso(found.serving_since)}" if found.serving_number >= 0 else "nothing yet")
    if found.number >= 0 and found.number != found.serving_number:
        line("waiting", f"revocation {found.number} is in place, and the server has not read it")
    for crl in found.crls:
        line("CRL", f"{crl.issuer}: number {crl.number}, {crl.entries} revoked, good until {iso(crl.next_update)}")
    line("source", found.source)
    line("target", found.target)
    for root in found.roots:
        line("root", root)
    for name, text in (("warning", found.warning), ("warning", gone)):
        if text:
            line(name, text)
    if found.problem:
        line("wrong", f"{found.problem.message} (since {iso(found.problem.since)})")
        if found.problem.hint:
            line("", found.problem.hint)


@agent.command("unit", cls=Verb)
@_config_option
@pass_session
@click.pass_context
def unit(ctx: click.Context, session: Session, config_file: Path | None) -> None:
    """Print a hardened systemd unit that fits the configuration."""
    del session
    from ..webserver import agent_unit

    config = _load(ctx, config_file)
    say.result(agent_unit.unit(config._replace(file=config.file.absolute()), _program()).rstrip("\n"))


def _program() -> tuple[str, ...]:
    """How this command was called, for a unit that calls it again."""
    called = Path(sys.argv[0]).absolute()
    return (str(called),) if called.is_file() and os.access(called, os.X_OK) else (sys.executable, "-c", "from gatekey.cli import main; main()")


@agent.command("example", cls=Verb)
@click.argument("server", type=click.Choice(list(KINDS)), default="nginx")
@pass_session
def example(session: Session, server: str) -> None:
    """Print a configuration with every key explained: for nginx, or the SERVER that is named."""
    del session
    from ..webserver import agent_unit

    say.result(agent_unit.example(server).rstrip("\n"))
