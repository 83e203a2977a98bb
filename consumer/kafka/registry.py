"""The schema registry adapter: writer schemas of messages in Confluent framing, by confluent-kafka's own client."""

import httpx2
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from consumer.config import RegistrySettings
from consumer.errors import FatalError, TransientError

_NOT_FOUND = 404
_DENIED = frozenset({401, 403})
_RETRIES = 0
"""The loop itself asks again, and serves the group meanwhile."""


class RegistryClient:
    """Fetches schemas by their ids; implements `consumer.events.SchemaSource`.

    Parameters
    ----------
    settings
        With a URL.
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
        self._client = SchemaRegistryClient(properties)

    def fetch(self, schema_id: int) -> str:
        """Give the text of a schema.

        Raises
        ------
        LookupError
            When the registry is well and does not know the id.
        TransientError
            When the registry cannot be asked now.
        FatalError
            When the registry denies us.
        """
        try:
            text = self._client.get_schema(schema_id).schema_str
        except SchemaRegistryError as error:
            if error.http_status_code == _NOT_FOUND:
                raise LookupError(schema_id) from error
            if error.http_status_code in _DENIED:
                raise FatalError(f"the schema registry denies access ({error.http_status_code})") from error
            raise TransientError(f"the schema registry answers {error.http_status_code}") from error
        except (httpx2.HTTPError, OSError) as error:
            raise TransientError(f"the schema registry cannot be reached: {error}") from error
        if text is None:
            raise LookupError(schema_id)
        return text


def registry_client(settings: RegistrySettings) -> RegistryClient | None:
    """Make a client, or None where no registry is configured."""
    return None if settings.url is None else RegistryClient(settings)
