"""The commands ``emit watch|notifications|listen|scan`` and ``emit rejected list|retry``: thin over `consumer.sources`."""

import sys
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import time

import click

from consumer.admin.rejections import StoredRejection, list_rejections
from consumer.commands.options import (
    EXIT_FAILED,
    config_option,
    examples,
    open_database,
    output_option,
    print_rows,
    reports_errors,
    settings_from,
    tool_settings,
)
from consumer.commands.values import COUNT, DAY_OBS, NAME, Duration
from consumer.config import Settings
from consumer.config.source_places import FolderSettings
from consumer.errors import ConfigurationError, TransientError
from consumer.kafka.notification_consumer import NotificationConsumer
from consumer.logs import get_logger
from consumer.read.raws import stored_detectors
