"""What a batch's transaction reads and writes; `consumer.postgres.batch_tables` implements it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from consumer.domain import ExposureKey, KnownExposure, StoredVisit, VisitKey
from consumer.domain.closing import Deadline, Later, OpenGroup, Waiting
from consumer.events.visit_defined import RemovedVisit
from consumer.model import DeadLetter, GroupKey, OffsetUpdate, PartitionId, RawRegion, VisitRecords


class VisitTables(Protocol):
    """The reads and writes that visits need; see `consumer.postgres.batch_tables.BatchTransaction` for each."""

    def raw_regions(self, exposures: Iterable[ExposureKey]) -> dict[ExposureKey, list[RawRegion]]:
        """Read what the raws' own WCS said, by exposure."""

    def open_groups(self, keys: Collection[GroupKey]) -> list[OpenGroup]:
        """Claim the rows of groups; return those that were open already."""

    def group_members(self, keys: Collection[GroupKey]) -> list[KnownExposure]:
        """Read the stored exposures of groups."""

    def delete_groups(self, keys: Collection[GroupKey]) -> None:
        """Remove groups that closed."""

    def lock_visits(self, visits: Sequence[tuple[str, int, str]], groups: Collection[GroupKey]) -> list[StoredVisit]:
        """Read and lock the stored visits that have these (instrument, id, name), or belong to these groups."""

    def delete_visits(self, visits: Sequence[StoredVisit]) -> list[RemovedVisit]:
        """Remove every row of visits; return what was stored of them."""

    def write_visits(
        self, visits: Sequence[VisitRecords], replaced: Sequence[StoredVisit], *, alone: bool
    ) -> dict[VisitKey, int]:
        """Store the rows of visits and return their revisions, or raise DataRefusedError."""

    def refused_groups(self, instruments: Collection[str]) -> set[GroupKey]:
        """Read the groups that were refused a visit whose id or name another group has."""

    def resolve_dead_letters(self, groups: Collection[GroupKey]) -> None:
        """Resolve the dead letters of groups that are visits now."""

    def write_outbox(self, rows: Sequence[tuple[str, int, int, bytes]]) -> None:
        """Store announcements: instrument, visit, revision, payload."""


class Tables(VisitTables, Protocol):
    """The reads and writes of one batch; see `consumer.postgres.batch_tables.BatchTransaction` for each.

    What a write fails with may be raised by a later call, or by the commit.
    """

    @property
    def round_trips(self) -> int:
        """How often an answer of the server was waited for."""

    def advance(self, offset_updates: Sequence[OffsetUpdate]) -> None:
        """Move the stored positions, or raise FencedError: now, at the next call that reads, or at the commit."""

    def insert_exposures(self, exposures: Collection[KnownExposure]) -> set[ExposureKey]:
        """Store exposures that are new, and tell which were."""

    def lock_exposures(self, keys: Iterable[ExposureKey]) -> dict[ExposureKey, KnownExposure]:
        """Read stored exposures and keep them from changing."""

    def update_exposures(
        self, merged: Mapping[ExposureKey, KnownExposure], stored: Mapping[ExposureKey, KnownExposure]
    ) -> None:
        """Store what merging made of locked exposures."""

    def insert_raw_regions(self, regions: Iterable[RawRegion]) -> None:
        """Store what raws' own WCS said, where nothing newer is stored."""

    def few_group_members(self, keys: Collection[GroupKey], most: int) -> tuple[list[KnownExposure], set[GroupKey]]:
        """Read the stored exposures of groups that have at most so many, and return which have more."""

    def lock_due_groups(
        self,
        stream_times_ms: Mapping[int, int],
        instruments: Collection[str],
        later: Collection[Later],
        most: int | None,
    ) -> list[OpenGroup]:
        """Read and lock the groups of these instruments that fall due, or that later exposures supersede."""

    def lock_first_due_groups(
        self, stream_times_ms: Mapping[int, int], instruments: Collection[str], most: int
    ) -> list[OpenGroup]:
        """Read and lock the groups of these instruments that fall due, at most so many: the earliest."""

    def store_groups(self, groups: Iterable[tuple[OpenGroup, Deadline]]) -> None:
        """Store groups that stay open."""

    def write_dead_letters(self, letters: Sequence[DeadLetter], stream_times_ms: Mapping[PartitionId, int]) -> None:
        """Store dead letters."""

    def resolve_dead_letters_of_exposures(self, exposures: Collection[ExposureKey]) -> None:
        """Resolve the dead letters of exposures that were off sky."""

    def resolve_dead_letters_of_messages(self, offsets: Collection[tuple[int, int]]) -> None:
        """Resolve the dead letters of messages, by the id of the position and the offset."""

    def waiting(self, offset_ids: Collection[int]) -> dict[int, Waiting]:
        """Read what waits on the stream time of each of these positions."""
