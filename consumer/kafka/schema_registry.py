"""The schema registry adapter: writer schemas of messages in Confluent framing, by confluent-kafka's own client."""

from time import monotonic

import httpx2
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from consumer.config import RegistrySettings
from consumer.errors import ConfigurationError, RegistryError

_REFUSED = frozenset({400, 404, 405, 410, 422})
"""HTTP states of an id that the registry does not know, in whatever form it or a proxy before it says so. Others, such
as 401, 403, 429 and 5xx, speak of the request or of the registry, and not of the id."""
_ASK_AGAIN_S = 30.0
"""For so long an id that the registry does not know is not asked for again, however many messages have it."""
_MAX_UNKNOWN = 10_000
_PAUSE_S = 1.0
"""A registry that failed is not asked for so long, at least: other partitions go on meanwhile."""
_PAUSE_FACTOR = 4.0
"""Nor for so many times as long as the failure took: most of the loop's time is for the other partitions."""
_RETRIES = 0
"""The loop itself asks again, and serves the group meanwhile."""


class RegistryClient:
    """Fetches schemas by their ids; implements `consumer.events.SchemaSource`.

    Parameters
    ----------
    settings
        With a URL.

    Raises
    ------
    ConfigurationError
        When the file of the certificate authority holds none.
    """

    def __init__(self, settings: RegistrySettings) -> None:
        password = settings.current_password()
        properties: dict[str, object] = {
            "url": settings.url,
            "timeout": settings.timeout_s,
            "max.retries": _RETRIES,
            "cache.capacity": settings.max_cached_schemas,
        }
        if settings.ca_file is not None:
            properties["ssl.ca.location"] = str(settings.ca_file)
        if settings.username is not None and password is not None:
            properties["basic.auth.user.info"] = f"{settings.username}:{password.get_secret_value()}"
        try:
            self._client = SchemaRegistryClient(properties)
        except OSError as error:
            raise ConfigurationError(f"registry.ca_file: {settings.ca_file} is of no use: {error}") from error
        self._unknown: dict[int, float] = {}
        self._away: tuple[float, str] = (0.0, "")

    def fetch(self, schema_id: int) -> str:
        """Return the text of a schema.

        Raises
        ------
        LookupError
            When the registry is well and does not know the id.
        RegistryError
            When the registry cannot be asked now.
        """
        known_until = self._unknown.get(schema_id)
        if known_until is not None and monotonic() < known_until:
            raise LookupError(schema_id)
        away_until, why = self._away
        asked_at = monotonic()
        if asked_at < away_until:
            raise RegistryError(why)
        try:
            return self._ask(schema_id)
        except RegistryError as error:
            now = monotonic()
            self._away = (now + max(_PAUSE_S, _PAUSE_FACTOR * (now - asked_at)), str(error))
            raise

    def _ask(self, schema_id: int) -> str:
        try:
            text = self._client.get_schema(schema_id).schema_str
        except SchemaRegistryError as error:
            if error.http_status_code not in _REFUSED:
                raise RegistryError(f"the schema registry answers {error.http_status_code}") from error
            self._remember_unknown(schema_id)
            raise LookupError(schema_id) from error
        except (httpx2.HTTPError, OSError) as error:
            raise RegistryError(f"the schema registry cannot be reached: {error}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise RegistryError(f"the schema registry's answer makes no sense: {error}") from error
        if text is None:
            raise RegistryError(f"the schema registry's answer for schema {schema_id} has no schema")
        return text

    def close(self) -> None:
        """End its connections."""
        self._client.close()

    def _remember_unknown(self, schema_id: int) -> None:
        if len(self._unknown) >= _MAX_UNKNOWN:
            self._unknown.clear()
        self._unknown[schema_id] = monotonic() + _ASK_AGAIN_S
