"""Libraries that are an extra of the distribution, where a command can do without them."""

from collections.abc import Iterator
from contextlib import contextmanager

from consumer.errors import ConfigurationError


@contextmanager
def needs_extra(extra: str, what: str) -> Iterator[None]:
    """Import in the body what an extra brings.

    Parameters
    ----------
    extra
        Its name.
    what
        What needs it, for the error.

    Raises
    ------
    ConfigurationError
        When it is not installed; says how to install it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{what} needs {error.name}: pip install '.[{extra}]' at the top of a checkout"
        ) from error
