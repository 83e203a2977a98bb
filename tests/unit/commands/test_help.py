"""Every command shows in its help how it is called."""

from collections.abc import Iterator

import click
import pytest

from consumer.cli import main
from tests.support.commands import invoke
from tests.support.documents import command_lines, parse_command


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the names that lead to each command that is no group."""
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        yield from leaves(inner, (*path, name))


LEAVES = list(leaves(main))


def test_all_commands_are_found() -> None:
    assert len(LEAVES) > 15
    assert ("dead-letters", "discard") in LEAVES


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_the_help_ends_with_examples_of_the_command_that_parse(path: tuple[str, ...]) -> None:
    _, found, examples = invoke(*path, "--help").stdout.partition("\n  Examples:\n")
    assert found
    lines = examples.strip().splitlines()
    commands = command_lines(examples)
    assert len(commands) == len(lines) > 0
    for arguments in commands:
        assert tuple(arguments[: len(path)]) == path
        parse_command(arguments)
