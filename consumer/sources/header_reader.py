"""Reads the header of one object: FITS header blocks by ranged reads, or a JSON or YAML sidecar."""

from dataclasses import dataclass

from fsspec import AbstractFileSystem

from consumer.sources.model import Header, SourceObject


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderLimits:
    """Bounds on what one object may make this process read or hold."""

    header_bytes: int = 4 * 2**20
    """Of all header blocks that are read, and of a sidecar; decompressed where it is compressed."""
    skipped_bytes: int = 64 * 2**20
    """Decompressed data between two headers of a ``.gz``."""
    extensions: int = 4
    """Header-only units that are passed over before the one with the data."""
    depth: int = 8
    """Nesting of a sidecar."""


def read_header(source: SourceObject, filesystem: AbstractFileSystem, limits: HeaderLimits) -> Header:
    """Read the header of one raw; the primary header is inherited by the extension that has the data.

    Parameters
    ----------
    source
        The object; its name's ending only decides between JSON and YAML, the bytes decide on the rest.
    filesystem
        Where it is.
    limits
        Bounds.

    Raises
    ------
    RejectedError
        The object is no raw and no sidecar, or is too large.
    NotReadableYetError
        It is not there, cannot be read, is empty or ends within its header.
    """
    raise NotImplementedError
