"""The interface on Kafka as an AsyncAPI 3 document, written from the schemas: ``python -m deploy.reference.asyncapi``.

It says nothing that the schemas do not say, but for how messages travel: topic, key, wire forms, and the guarantee.
Source: https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

import json
import sys
from typing import Any

import yaml

from consumer import __version__
from consumer.config import KafkaSettings
from consumer.config.source import SourceSettings
from consumer.events.schema_files import schema_text

AVRO = "application/vnd.apache.avro+json;version=1.9.0"
"""AsyncAPI's name for a payload that is described by an Avro schema as JSON."""

ANNOUNCE_TOPIC = "visit-defined"
"""Topic of announcements in the documents and examples; ``announce.topic`` has no default."""

_HEAD = "# Written by `python -m deploy.reference.asyncapi` from *.avsc; do not edit.\n"

_DESCRIPTION = (
    "The visit consumer reads events of raws and of whole exposures, and defines visits from them. Both kinds may "
    "share a topic. It announces each revision of a visit. "
    "Messages are Avro, in one of two wire forms that the first byte tells apart: 0x00, the id of the writer's schema "
    "in a Confluent schema registry (4 bytes, big endian), then the datum; or 0xC3 0x01, the writer schema's "
    "CRC-64-AVRO fingerprint (8 bytes, little endian), then the datum (Avro single-object encoding). Announcements use "
    "the second. Readers resolve the writer's schema against theirs, so that fields may be added, removed and renamed "
    "by alias."
)

_DELIVERY = {
    "raw_ingested": (
        "Read at least once and applied exactly once: repeated messages and any order of arrival give the same visits. "
        "A message that cannot be used becomes a dead letter, which an operator can list and replay."
    ),
    "visit_defined": (
        "Sent at least once, after the visit's rows can be read, in order of revision for each visit. Keep the highest "
        "revision seen for (instrument, visit), and ignore a message whose revision is not above it."
    ),
    "raw_rejected": (
        "Sent at least once by the commands `emit`. Of the messages of one object the latest counts; one without a "
        "value says that the object became an event later."
    ),
}

_BY_GROUP = (
    "instrument/group as UTF-8, so that a group's events share a partition. Speed depends on it; correctness does not."
)
_KEYS = {
    "raw_ingested": _BY_GROUP,
    "exposure_ingested": _BY_GROUP,
    "visit_defined": "instrument/visit as UTF-8, so that a visit's revisions share a partition.",
    "raw_rejected": "The object's address as UTF-8; empty where a notification names none.",
}


_CHANNELS = {
    "raw_ingested": ("raw_ingested", "exposure_ingested"),
    "visit_defined": ("visit_defined",),
    "raw_rejected": ("raw_rejected",),
}
"""The schemas of each topic's messages."""


def asyncapi_document() -> dict[str, Any]:
    """Return the document for all topics, under the default names of the topics.

    Raises
    ------
    FileNotFoundError
        When a schema is missing from package and checkout.
    """
    settings = KafkaSettings(bootstrap_servers="unused")
    rejected_topic = SourceSettings().rejected_topic
    addresses = dict(zip(_CHANNELS, (settings.topics[0], ANNOUNCE_TOPIC, rejected_topic), strict=True))
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Visit consumer",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "BSD-3-Clause"},
        },
        "defaultContentType": "application/avro",
        "channels": {name: _channel(name, addresses[name]) for name in _CHANNELS},
        "operations": {
            "receiveRawIngested": _operation(
                "receive",
                "raw_ingested",
                "Define visits from raws and exposures as they are ingested.",
                {"groupId": {"type": "string", "default": settings.group}, "bindingVersion": "0.5.0"},
            ),
            "sendVisitDefined": _operation(
                "send", "visit_defined", "Announce each revision of a visit.", {"bindingVersion": "0.5.0"}
            ),
            "sendRawRejected": _operation(
                "send", "raw_rejected", "Report each object that becomes no event.", {"bindingVersion": "0.5.0"}
            ),
        },
        "components": {
            "messages": {_message_name(name): _message(name) for each in _CHANNELS.values() for name in each}
        },
    }


def asyncapi_text() -> str:
    """Return the document as YAML, as ``schemas/asyncapi.yaml`` holds it."""
    return _HEAD + yaml.safe_dump(asyncapi_document(), sort_keys=False, allow_unicode=True, width=120)


def _schema(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(schema_text(name))
    return schema


def _message_name(name: str) -> str:
    return str(_schema(name)["name"])


def _channel(name: str, address: str) -> dict[str, Any]:
    messages = [_message_name(each) for each in _CHANNELS[name]]
    return {
        "address": address,
        "description": _DELIVERY[name],
        "messages": {message: {"$ref": f"#/components/messages/{message}"} for message in messages},
        "bindings": {"kafka": {"topic": address, "bindingVersion": "0.5.0"}},
    }


def _operation(action: str, name: str, summary: str, kafka: dict[str, Any]) -> dict[str, Any]:
    return {
        "action": action,
        "summary": summary,
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{_message_name(each)}"} for each in _CHANNELS[name]],
        "bindings": {"kafka": kafka},
    }


def _message(name: str) -> dict[str, Any]:
    schema = _schema(name)
    return {
        "name": f"{schema['namespace']}.{schema['name']}",
        "title": schema["name"],
        "summary": schema["doc"],
        "contentType": "application/avro",
        "bindings": {"kafka": {"key": {"type": "string", "description": _KEYS[name]}, "bindingVersion": "0.5.0"}},
        "payload": {"schemaFormat": AVRO, "schema": schema},
    }


if __name__ == "__main__":
    sys.stdout.write(asyncapi_text())
