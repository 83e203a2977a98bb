"""Configuration: a YAML file and environment variables become frozen settings, or one error that names every wrong key.

Only `load_settings` reads files and environment. No other module of the package does.
"""

from consumer.config.butler import ButlerSettings
from consumer.config.database import DatabaseSettings
from consumer.config.instruments import (
    ClosingOverrides,
    ClosingSettings,
    InstrumentRegionSettings,
    InstrumentSettings,
    known_instruments,
)
from consumer.config.kafka import KafkaSecuritySettings, KafkaSettings, OAuthSettings, RegistrySettings
from consumer.config.load import load_settings, secret_values
from consumer.config.process import (
    AnnounceSettings,
    BatchSettings,
    BreakerSettings,
    HttpSettings,
    LogSettings,
    RetentionSettings,
    ShutdownSettings,
)
from consumer.config.settings import ENV_DELIMITER, ENV_PREFIX, Settings

__all__ = [
    "ENV_DELIMITER",
    "ENV_PREFIX",
    "AnnounceSettings",
    "BatchSettings",
    "BreakerSettings",
    "ButlerSettings",
    "ClosingOverrides",
    "ClosingSettings",
    "DatabaseSettings",
    "HttpSettings",
    "InstrumentRegionSettings",
    "InstrumentSettings",
    "KafkaSecuritySettings",
    "KafkaSettings",
    "LogSettings",
    "OAuthSettings",
    "RegistrySettings",
    "RetentionSettings",
    "Settings",
    "ShutdownSettings",
    "known_instruments",
    "load_settings",
    "secret_values",
]
