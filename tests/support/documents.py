"""What the documents show: their examples, their links, and the command lines that they tell a reader to type."""

import contextlib
import re
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from consumer.cli import main

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "deploy").glob("*.md")),
    ROOT / "consumer" / "regions" / "camera" / "data" / "README.md",
]
"""All that people read: of users, operators and contributors."""

_PLACEHOLDERS = {
    "CAMERA": "lsstcam",
    "D": "20261101",
    "DSN": "dbname=visits",
    "FILE": "file.yaml",
    "FORMER": "visit-consumer-old",
    "I": "LSSTCam",
    "ID": "17",
    "N": "2026110100042",
    "P": "0",
    "REASON": "contradiction",
    "T": "raw-ingested",
}
"""Words in capitals that a reader replaces, and a value that such a reader could write."""
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_ASSIGNMENT = re.compile(r"[A-Z_]+=.*")


def example(document: Path, name: str) -> str:
    """Return the code block that follows the comment ``<!-- example: name -->``."""
    text = document.read_text(encoding="utf-8")
    found = re.search(rf"^<!-- example: {re.escape(name)} -->\n```\w+\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert found is not None, f"{document.name} has no example {name!r}"
    return found[1]


def example_names(document: Path) -> list[str]:
    """Return the names of all examples of a document, in order."""
    return re.findall(r"^<!-- example: (.+) -->$", document.read_text(encoding="utf-8"), re.MULTILINE)


def links(document: Path) -> list[str]:
    """Return the targets of a document's links that lead to a file or a heading of this repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    return [link for link in found if not link.startswith(("http://", "https://"))]


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub and GitLab make them."""
    text = _FENCE.sub("", document.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shown_commands(document: Path) -> list[list[str]]:
    """Return the arguments of each ``visit-consumer`` command in a document's code blocks and running text."""
    text = document.read_text(encoding="utf-8")
    prose = _FENCE.sub("", text)
    blocks = [body for _, body in _FENCE.findall(text)]
    blocks += re.findall(r"^ {4}\S.*$", prose, re.MULTILINE)
    spans = [span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", prose)]
    return [arguments for each in (*blocks, *spans) for arguments in command_lines(each)]


def command_lines(text: str) -> list[list[str]]:
    """Return the arguments of each ``visit-consumer`` command in the lines of a shell."""
    return [arguments for line in text.replace("\\\n", " ").splitlines() for arguments in _commands_of(line)]


def _commands_of(line: str) -> Iterator[list[str]]:
    if "visit-consumer" not in line:
        return
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # a quote that the next lines close, or prose
        return
    command: list[str] = []
    for word in [*words, ";"]:
        if word and set(word) <= set("();<>|&"):
            yield from _of_simple_command(command)
            command = []
        else:
            command.append(word)


def _of_simple_command(words: list[str]) -> Iterator[list[str]]:
    """Yield the arguments when the words run ``visit-consumer``, directly or in a container."""
    begin = next((n for n, word in enumerate(words) if not _ASSIGNMENT.fullmatch(word)), len(words))
    for number, word in enumerate(words):
        runs = number == begin or words[number - 1] == "--" or (number > 1 and words[number - 2] == "exec")
        in_image = "run" in words[:number] and re.fullmatch(r"\S+/visit-consumer:[\w.]+", word)
        if in_image or (runs and Path(word).name == "visit-consumer"):
            yield words[number + 1 :]
            return


def parse_command(arguments: Sequence[str]) -> None:
    """Parse the arguments of ``visit-consumer`` as it would, and run nothing.

    Files that are named are there, empty, while the arguments are parsed; placeholders have a value.

    Raises
    ------
    click.ClickException
        When the command would refuse the arguments.
    """
    command, rest = _find([_PLACEHOLDERS.get(word, word) for word in arguments])
    if rest in (["--help"], ["--version"]):
        return
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for word in rest:
            if re.fullmatch(r"[\w-]+\.(yaml|json|jsonl|csv)", word):
                Path(word).touch()
        with command.make_context("visit-consumer", rest):
            pass


def names_only(arguments: Sequence[str]) -> bool:
    """Whether the arguments are the name of a command or of a group, and nothing else."""
    _, rest = _find(arguments)
    return not rest


def _find(arguments: Sequence[str]) -> tuple[click.Command, list[str]]:
    """Return the command that the first words name, and the other words."""
    command: click.Command = main
    rest = list(arguments)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        inner = command.get_command(click.Context(command), rest[0])
        if inner is None:
            raise click.UsageError(f"{command.name} has no command {rest[0]!r}")
        command = inner
        del rest[0]
    return command, rest
