"""Watches folders: lists them once, then offers files as they land, and lists them again now and then.

The kernel's events are lost where its queue overflows, and never come from another machine of a network's file system:
so the folders are listed again, and files that have changed since are offered.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from watchfiles import Change, watch

from consumer.metrics.source import SourceMetrics
from consumer.sources.ignored import IgnoredReason
from consumer.sources.interfaces import EmitCommand, FoundObject, Stopping
from consumer.sources.live_pipeline import LivePipeline
from consumer.sources.places import Place

_GATHER_MS = 400
"""Events are handed over after a pause of 50 ms, or so long after the first."""
_LOOK_EVERY_MS = 200
_OVERLAP_S = 10.0
"""A file that changed so long before the last listing began is offered again: clocks of file systems are coarse."""


class FolderWatcher:
    """Watches folders until the process ends.

    Parameters
    ----------
    folders
        Places that are folders.
    pipeline
        Takes the files.
    metrics
        Count what is gone before it can be offered.
    list_every_s
        Pause between two listings.
    wall_s
        The clock, UTC seconds since the Unix epoch.
    """

    def __init__(
        self,
        folders: Sequence[Place],
        pipeline: LivePipeline,
        metrics: SourceMetrics,
        *,
        list_every_s: float,
        wall_s: Callable[[], float],
    ) -> None:
        self._folders = folders
        self._pipeline = pipeline
        self._metrics = metrics
        self._list_every_s = list_every_s
        self._wall_s = wall_s

    def run(self, stopping: Stopping) -> None:
        """Watch until the process ends."""
        listed_at_s = changed_since_s = None
        events = watch(
            *(each.url for each in self._folders),
            stop_event=stopping,
            watch_filter=None,
            debounce=_GATHER_MS,
            rust_timeout=_LOOK_EVERY_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )
        for changes in events:
            # The kernel watches by the first turn: what lands while the folders are listed makes an event.
            now_s = self._wall_s()
            if listed_at_s is None or now_s - listed_at_s >= self._list_every_s:
                listed_at_s = now_s
                self._offer(
                    (path for folder in self._folders for path in _files_below(folder.url)), changed_since_s, stopping
                )
                changed_since_s = now_s - _OVERLAP_S
            landed = {path for change, path in changes if change is not Change.deleted}
            self._offer((path for each in sorted(landed) for path in _files_below(each)), None, stopping)

    def _offer(self, paths: Iterable[str], changed_since_s: float | None, stopping: Stopping) -> None:
        for path in paths:
            try:
                status = os.stat(path)  # noqa: PTH116 -- pathlib takes ten times as long, for each file of a night
            except OSError:
                self._metrics.ignored.labels(IgnoredReason.GONE).inc()
                continue
            if changed_since_s is not None and status.st_ctime < changed_since_s:
                continue
            place = next(each for each in self._folders if path.startswith(f"{each.url}/"))
            found = FoundObject(
                place=place,
                key=path.removeprefix(f"{place.url}/"),
                tag=f"{status.st_mtime_ns}-{status.st_size}",
                command=EmitCommand.WATCH,
            )
            if not self._pipeline.offer_when_there_is_room(found, stopping):
                return


def _files_below(path: str) -> Iterator[str]:
    """Yield a file itself, or the files of a folder: one that was moved in makes one event for all of them."""
    if not os.path.isdir(path):  # noqa: PTH112 -- as above
        yield path
        return
    for folder, _, names in os.walk(path):
        for name in names:
            yield f"{folder}/{name}"
