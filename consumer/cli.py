"""The command ``visit-consumer``: finds the subcommand that is asked for, and loads nothing else.

Loading every command takes seconds, most of them for libraries that the others need; processes of a pool, which load
this module again, would pay for them too.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from consumer import __version__

COMMANDS: Mapping[str, str] = {
    "run": "consumer.commands.serve:run",
    "check-config": "consumer.commands.serve:check_config",
    "migrate": "consumer.commands.serve:migrate",
    "roles": "consumer.commands.roles:roles",
    "demo": "consumer.commands.demo:demo",
    "simulate": "consumer.commands.simulate:simulate",
    "define": "consumer.commands.define:define",
    "backfill": "consumer.commands.backfill:backfill",
    "prune": "consumer.commands.prune:prune",
    "redefine": "consumer.commands.redefine:redefine",
    "status": "consumer.commands.status:status",
    "wait": "consumer.commands.wait:wait",
    "audit": "consumer.commands.audit:audit",
    "explain": "consumer.commands.explain:explain",
    "dead-letters": "consumer.commands.dead_letters:dead_letters",
    "positions": "consumer.commands.positions:positions",
    "breaker": "consumer.commands.breaker:breaker",
    "find": "consumer.commands.find:find",
    "export": "consumer.commands.export:export",
    "obscore": "consumer.commands.obscore:obscore",
    "camera": "consumer.commands.camera:camera",
    "emit": "consumer.commands.emit:emit",
    "butler-sink": "consumer.commands.butler_sink:butler_sink",
    "page": "consumer.commands.page:page",
}
"""Module and name of each command, in the order of the help text."""
_EXTRAS: Mapping[str, str] = {"emit": "sources", "export": "vo", "butler-sink": "butler", "page": "page"}
"""Commands whose libraries are an extra of the distribution."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for; see click's documentation of lazy subcommands."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's interface
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # the same
        """Import one command; None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        try:
            command = getattr(import_module(module), name)
        except ModuleNotFoundError as error:
            if cmd_name not in _EXTRAS:
                raise
            return _not_installed(cmd_name, str(error.name))
        if not isinstance(command, click.Command):
            raise TypeError(f"{COMMANDS[cmd_name]} is no command")
        return command

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:  # click's
        """Parse the arguments of the program itself."""
        with _harmless_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:  # what the command returns
        """Parse the arguments of a command, and run it."""
        with _harmless_errors():
            return super().invoke(ctx)


def _not_installed(command: str, missing: str) -> click.Command:
    """Return a command that says what to install, so that the others and the help go on."""
    advice = f"needs {missing}: pip install '.[{_EXTRAS[command]}]' at the top of a checkout"

    def fail() -> None:
        raise click.ClickException(f"{command} {advice}")

    settings = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    return click.Command(command, callback=fail, context_settings=settings, help=f"Not installed: {advice}.")


@contextmanager
def _harmless_errors() -> Iterator[None]:
    """Let click's errors repeat what was given without what a terminal would obey."""
    try:
        yield
    except click.ClickException as error:
        # Loaded only when something is wrong.
        from consumer.commands.values import printable  # noqa: PLC0415

        error.message = printable(error.message)  # type: ignore[misc] # final in later releases
        raise


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="visit-consumer")
def main() -> None:
    """Define visits from raw-ingested events on Kafka, exactly once, in PostgreSQL."""
