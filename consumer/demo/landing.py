"""Files that become visits: real headers land in a folder that ``visit-consumer emit watch`` reads.

``landing_headers.json`` has the sidecars of three raws by their names, as Rubin's buckets have them: keyword to value,
without names of persons. Each is of an exposure that is a visit by itself.
"""

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from rich.console import Console

from consumer.demo.processes import running
from consumer.errors import FatalError
from consumer.postgres.connection import Database
from consumer.read.night import read_night

_EXTRA = ("astro_metadata_translator", "fsspec", "watchfiles")
"""What the extra ``sources`` brings, and an emitter of files in folders needs."""
_TIMEOUT_S = 30.0


class Landing:
    """A folder and its emitter, running between ``with`` and its end; without the extra that it needs, neither.

    Parameters
    ----------
    directory
        Of the demo: the folder and the emitter's log are in it.
    config
        The settings file.
    """

    def __init__(self, directory: Path, config: Path) -> None:
        self._directory = directory
        self._config = config
        self._log = directory / "emitter.log"
        self._stack = ExitStack()
        self._missing = [name for name in _EXTRA if find_spec(name) is None]

    def __enter__(self) -> Self:
        """Start the emitter, and do not wait for it."""
        if not self._missing:
            folder = tempfile.TemporaryDirectory(prefix="landing-", dir=self._directory)
            self._folder = Path(self._stack.enter_context(folder))
            command = ["emit", "watch", str(self._folder), "--config", str(self._config)]
            self._wait_for_emitter = self._stack.enter_context(running(command, self._log))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the emitter, and remove the folder."""
        self._stack.close()

    def land(self, database: Database, committed: Callable[[], int], console: Console) -> bool:
        """Write each sidecar into the folder, wait until its event is committed, and show its visit.

        Parameters
        ----------
        database
            The consumer's.
        committed
            Counts the events that the consumer has committed.
        console
            Where the lines go.

        Returns
        -------
        good
            Whether each header is a visit of its exposure's name; True without the extra, which a line then names.

        Raises
        ------
        FatalError
            When the emitter does not start, or a file becomes no event; with the emitter's log.
        """
        if self._missing:
            text = (
                f"No files land: {', '.join(self._missing)} missing; pip install '.[sources]' at the top of a checkout"
            )
            console.print(text, style="yellow", highlight=False, markup=False)
            return True
        self._wait_for_emitter()
        console.print("Sidecars of real headers land in a folder that `visit-consumer emit watch` reads:")
        headers = json.loads(files("consumer.demo").joinpath("landing_headers.json").read_text(encoding="utf-8"))
        shown = [
            self._land_one(name, header, database, committed, console)
            for name, header in cast("Mapping[str, Mapping[str, object]]", headers).items()
        ]
        return all(shown)

    def _land_one(
        self,
        name: str,
        header: Mapping[str, object],
        database: Database,
        committed: Callable[[], int],
        console: Console,
    ) -> bool:
        before, landed_s = committed(), time.monotonic()
        (self._folder / name).write_text(json.dumps(header), encoding="utf-8")
        while committed() == before:
            if time.monotonic() - landed_s > _TIMEOUT_S:
                raise FatalError(f"{name} became no event:\n{self._log.read_text(encoding='utf-8')}")
            time.sleep(0.02)
        took_s = time.monotonic() - landed_s
        visit = next((each for each in read_night(database) if each.name == header["OBSID"]), None)
        outcome = "NO VISIT" if visit is None else f"{visit.instrument} visit {visit.id} after {took_s:.1f} s"
        console.print(f"  {name}: {outcome}", highlight=False)
        return visit is not None
