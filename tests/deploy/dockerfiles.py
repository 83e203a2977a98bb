"""A Dockerfile's steps, run without a container engine as far as they go: one folder stands for all its stages.

FROM becomes a fresh virtual environment of this Python, absolute paths become paths below the folder, and RUN runs.
Accounts are not made, layers are not kept apart, and Debian's own packages are this machine's.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.deploy.tools import ToolUnavailableError, run

_STEP_TIMEOUT_S: Final = 900
_NOT_RUN: Final = re.compile(r"^(groupadd|useradd)\b")
_NO_INDEX: Final = re.compile(r"NewConnectionError|NameResolutionError|name resolution|ConnectTimeout|ProxyError")
"""What pip says when it cannot reach its package index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction, its continued lines joined."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What stands between one FROM and the next."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)

    def all_of(self, name: str) -> list[str]:
        """Return the arguments of every instruction of a name."""
        return [each.arguments for each in self.instructions if each.name == name]


def parse(dockerfile: Path) -> list[Stage]:
    """Read a Dockerfile into its stages; what stands before the first FROM is left out."""
    stages: list[Stage] = []
    for instruction in _instructions(dockerfile.read_text(encoding="utf-8")):
        if instruction.name == "FROM":
            base, _, name = instruction.arguments.partition(" AS ")
            stages.append(Stage(name=name, base=base))
        elif stages:
            stages[-1].instructions.append(instruction)
    return stages


def _instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, arguments = line.partition(" ")
        yield Instruction(name=name.upper(), arguments=" ".join(arguments.split()))


class Sandbox:
    """The folder in which the stages run.

    Parameters
    ----------
    root
        Stands for ``/``. Readable for everybody, so that the result can be run as another user.
    context
        Folder that COPY copies from: the top of the repository.
    """

    def __init__(self, root: Path, context: Path) -> None:
        self.root = root
        self.context = context
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("VIRTUAL_ENV")}
        self.not_run: list[str] = []

    def at(self, path: str) -> Path:
        """Return where a path of the image is."""
        return self.root / path.lstrip("/")

    def run_stage(self, stage: Stage) -> None:
        """Run a stage's COPY, WORKDIR, ENV and RUN in turn.

        Raises
        ------
        ToolUnavailableError
            When a step fails because the package index cannot be reached.
        AssertionError
            When a step fails for another reason: the Dockerfile is wrong.
        """
        base = self.root / "bases" / stage.name
        run([sys.executable, "-m", "venv", base], timeout_s=120)
        path = f"{base / 'bin'}:{self.environment['PATH']}"
        folder = self.root
        for each in stage.instructions:
            if each.name == "WORKDIR":
                folder = self.at(each.arguments)
                folder.mkdir(parents=True, exist_ok=True)
            elif each.name == "COPY":
                self._copy(each.arguments.split(), folder)
            elif each.name == "RUN":
                self._run(each.arguments, folder, path)

    def _copy(self, words: list[str], folder: Path) -> None:
        *sources, target = [word for word in words if not word.startswith("--")]
        if any(word.startswith("--from=") for word in words):
            for source in sources:  # one folder stands for all stages: it is there already
                assert self.at(source).exists(), source
            return
        place = self.at(target) if target.startswith("/") else folder / target
        place.mkdir(parents=True, exist_ok=True)
        for source in sources:
            path = self.context / source
            if path.is_dir():
                shutil.copytree(path, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, place)

    def _run(self, command: str, folder: Path, path: str) -> None:
        """Run the parts of a RUN. pip may use its cache here, to spare the package index."""
        for part in command.split(" && "):
            if _NOT_RUN.match(part):
                self.not_run.append(part)
                continue
            text = re.sub(r"(?<![\w.])/(?=(wheels|build|opt)\b)", f"{self.root}/", part).replace("--no-cache-dir ", "")
            try:
                run(
                    ["bash", "-euc", text],
                    timeout_s=_STEP_TIMEOUT_S,
                    cwd=folder,
                    env={**self.environment, "PATH": path},
                )
            except ToolUnavailableError as error:
                if _NO_INDEX.search(str(error)):
                    raise
                raise AssertionError(f"RUN fails: {error}") from error


def as_image_user(command: list[str], user: int) -> list[str]:
    """Return a command that runs as the image's user where the tests are root's, else as whoever runs them."""
    if os.geteuid() != 0:
        return command
    changed = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs", *command]
    probe = subprocess.run([*changed[:5], sys.executable, "-c", ""], check=False, capture_output=True, timeout=30)
    if probe.returncode != 0:
        raise ToolUnavailableError(f"user {user} cannot run {sys.executable}: it is below a closed folder")
    return changed
