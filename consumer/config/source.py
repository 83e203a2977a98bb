"""Settings of the sources: which files are raws, how their headers are read, and what is announced."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from consumer.config.sections import TopicName
from consumer.config.source_places import ListerSettings


class SourceSettings(ListerSettings):
    """From files to events."""

    emits: Literal["raw", "exposure"] = "raw"
    """`raw`: one event for each raw. `exposure`: events of whole exposures, with the detectors whose headers were read;
    headers of one exposure that are read together share one event."""
    topic: TopicName | None = None
    """Where events are sent; null: the first of kafka.topics."""
    header_maps: tuple[Path, ...] = ()
    """Header maps of instruments that no translator knows: files, or folders of `.yaml` and `.json` files."""
    corrections: tuple[Path, ...] = ()
    """Corrections of exposure records: files, or folders of `.yaml` and `.json` files. They count after those of this
    package."""
    header_corrections: tuple[Path, ...] = ()
    """Folders of header corrections as astro-metadata-translator defines them, searched before its own."""
    max_header_bytes: Annotated[int, Field(ge=2880, le=2**30)] = 4 * 2**20
    """Bytes of one header or sidecar, decompressed, that are read at most; a larger one is rejected."""
