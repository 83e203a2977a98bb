"""What reading from a file, a bucket or another store fails with, as errors that name the object and can be retried."""

from types import TracebackType

from consumer.sources.model import NotReadableYetError, RejectReason

_LIBRARIES = frozenset({"botocore", "aiohttp"})
"""Pass some errors of their own on. None is imported for that: it takes half a second, and folders need none."""


def is_store_fault(error: BaseException) -> bool:
    """Return whether it is the store that fails, not this program."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _LIBRARIES


class store_faults:  # noqa: N801 -- used like a function; as a generator it would cost more than reading a sidecar
    """Raises `NotReadableYetError` for what a store fails with while the body runs.

    Parameters
    ----------
    uri
        The object's address, without credentials.
    path
        Where the store has it, perhaps with credentials: the address stands for it in what is raised.
    """

    def __init__(self, uri: str, path: str = "") -> None:
        self._uri = uri
        self._path = path

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        """Translate a fault of the store."""
        if error is None or not is_store_fault(error):
            return
        if isinstance(error, FileNotFoundError):
            reason, detail = RejectReason.MISSING, "it is not there"
        elif isinstance(error, PermissionError):
            reason, detail = RejectReason.NO_ACCESS, "it may not be read; change its permissions or the credentials"
        else:
            text = str(error).replace(self._path, self._uri) if self._path else str(error)
            reason, detail = RejectReason.UNREACHABLE, f"its store fails ({type(error).__name__}: {text})"
        raise NotReadableYetError(reason, detail, uri=self._uri) from error
