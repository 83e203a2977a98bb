"""The decoder that knows every writer schema that the settings name."""

from collections.abc import Iterator
from contextlib import contextmanager

from consumer.config import Settings
from consumer.errors import ConfigurationError
from consumer.events import Decoder


@contextmanager
def event_decoder(settings: Settings, *, max_message_bytes: int | None = None) -> Iterator[Decoder]:
    """Return a decoder that knows the writer schemas of the settings, files and registry, for as long as it is needed.

    Parameters
    ----------
    settings
        Of Kafka and the registry; the files were checked when the settings were made.
    max_message_bytes
        None: ``kafka.max_message_bytes``.

    Raises
    ------
    ConfigurationError
        When a schema's file has become unusable since, or the registry's certificate authority is none.
    """
    try:
        texts = [file.read_text(encoding="utf-8") for file in settings.kafka.writer_schema_files]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"kafka.writer_schema_files: {error}") from error
    registry = None
    if settings.registry.url is not None:
        # Loading its client takes a third of a second, and most services have no registry
        from consumer.kafka.schema_registry import RegistryClient  # noqa: PLC0415

        registry = RegistryClient(settings.registry)
    try:
        yield Decoder(
            writer_schemas=texts,
            registry=registry,
            max_message_bytes=settings.kafka.max_message_bytes if max_message_bytes is None else max_message_bytes,
        )
    finally:
        if registry is not None:
            registry.close()
