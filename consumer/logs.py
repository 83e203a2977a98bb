"""Structured logs on standard error: JSON or lines for people, UTC times, and no secret in either.

The loop logs what happened to partitions, batches and groups, never a line for each event: those are counted. Warnings
of the standard library's loggers (psycopg, librdkafka through confluent-kafka) take the same way out.
"""

import logging
import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

MASK = "**********"
_MIN_SECRET_LENGTH = 4
"""A shorter secret would blank out half of every line, and is none."""
_KEY = r"(?:[\w.-]*(?:password|passwd|secret|token|api[_-]?key))"
_PATTERNS = (
    # scheme://user:password@host; the password ends at the last @ before a slash or a space
    (re.compile(r"(?P<keep>\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s/]*(?=@)", re.IGNORECASE), rf"\g<keep>{MASK}"),
    # password=..., 'sasl.password': '...', secret: ...
    (
        re.compile(
            rf"(?P<keep>\b{_KEY}['\"]?\s*[=:]\s*)(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\s,;&'\"}})\]]+)",
            re.IGNORECASE,
        ),
        rf"\g<keep>{MASK}",
    ),
    (re.compile(r"(?P<keep>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{8,}"), rf"\g<keep>{MASK}"),
)
_SECRET_KEY = re.compile(rf"{_KEY}$", re.IGNORECASE)


class Redaction:
    """A processor that masks secrets wherever they stand in an event: known values, and what looks like one.

    Parameters
    ----------
    secrets
        Values that must not be printed.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # The longest first: one secret may begin with another.
        known = sorted({s for s in secrets if len(s) >= _MIN_SECRET_LENGTH}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Return the event with its values masked."""
        return {key: self._value(key, value) for key, value in event.items()}

    def text(self, text: str) -> str:
        """Mask the secrets in one text."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text

    def _value(self, key: str, value: Any) -> Any:
        """Mask a value of any type; what is neither text nor a container prints as itself or as its text."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if _SECRET_KEY.match(key):
            return MASK
        if isinstance(value, dict):
            return {name: self._value(str(name), each) for name, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._value("", each) for each in value]
        if isinstance(value, bytes):
            value = repr(value)
        return self.text(str(value))


def configure_logging(format: str, level: str, secrets: Iterable[str] = (), *, stream: TextIO | None = None) -> None:  # noqa: A002  # the setting's own name
    """Set up logging for the whole process; a second call replaces the first.

    Parameters
    ----------
    format
        ``json``: one object a line; ``human``: lines for people, with colours on a terminal.
    level
        Least important level that is written: ``debug``, ``info``, ``warning`` or ``error``.
    secrets
        Values that must never be printed; see `consumer.config.secret_values`.
    stream
        Where lines go; None: standard error.

    Raises
    ------
    ValueError
        If the format or the level is none of these.
    """
    if format not in {"json", "human"}:
        raise ValueError(f"log format {format!r} is neither 'json' nor 'human'")
    threshold = logging.getLevelNamesMapping().get(level.upper())
    if threshold is None:
        raise ValueError(f"log level {level!r} is none of debug, info, warning, error")
    out = sys.stderr if stream is None else stream
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if format == "json"
        else structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        # Redaction is last: nothing that is written escapes it, an exception's text included.
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, Redaction(secrets), renderer],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    # Some libraries set a level of their own, which would let a warning pass where only errors are wanted.
    handler.setLevel(threshold)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries below a warning say what we count ourselves.
    root.setLevel(max(threshold, logging.WARNING))
    logging.getLogger("consumer").setLevel(threshold)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module; ``name`` is its ``__name__``. Events are short phrases, facts are keywords."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
