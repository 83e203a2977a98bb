"""The whole of the settings, which `consumer.config.load.load_settings` makes from a file and the environment."""

from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from consumer.config.butler import ButlerSettings
from consumer.config.database import DatabaseSettings
from consumer.config.instruments import ClosingSettings, Instruments, InstrumentSettings, known_instruments
from consumer.config.kafka import KafkaSettings, RegistrySettings
from consumer.config.obscore import ObscoreSettings
from consumer.config.page import PageSettings
from consumer.config.process import (
    AnnounceSettings,
    BatchSettings,
    BreakerSettings,
    HttpSettings,
    LogSettings,
    RetentionSettings,
    ShutdownSettings,
)
from consumer.config.source import SourceSettings
from consumer.errors import BadMessageError, DeadLetterReason

ENV_PREFIX = "VISIT_CONSUMER_"
"""Variables that begin so override the file."""
ENV_DELIMITER = "__"
"""Stands between the levels of a key in a variable's name."""


class Settings(BaseSettings):
    """Settings of the visit consumer, frozen. Made directly, they come from the arguments alone."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        validate_default=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        env_parse_none_str="null",
    )

    kafka: KafkaSettings
    """Where events come from."""
    registry: RegistrySettings = RegistrySettings()
    """Schema registry, where messages use Confluent framing."""
    database: DatabaseSettings
    """Where visits go."""
    batch: BatchSettings = BatchSettings()
    """How many messages share one transaction."""
    instruments: Instruments = Field(default_factory=known_instruments)
    """Settings by instrument name. Events of other instruments become dead letters. The package has built-in settings
    for LSSTCam, LSSTCamSim, LSSTComCam, LSSTComCamSim, LATISS, HSC and DECam; values given here override them. Without
    this key all seven are enabled."""
    closing: ClosingSettings = ClosingSettings()
    """When a group that is not known to be complete is closed."""
    announce: AnnounceSettings = AnnounceSettings()
    """Announcing visits on Kafka."""
    obscore: ObscoreSettings = ObscoreSettings()
    """The table of the Virtual Observatory, and what of it is public."""
    retention: RetentionSettings = RetentionSettings()
    """How long finished rows are kept."""
    breaker: BreakerSettings = BreakerSettings()
    """When to stop reading instead of writing dead letters."""
    http: HttpSettings = HttpSettings()
    """Metrics, health and status page."""
    source: SourceSettings = SourceSettings()
    """From files to events: `visit-consumer emit`."""
    butler: ButlerSettings = ButlerSettings()
    """From the tables to a Butler registry: `visit-consumer butler-sink`."""
    page: PageSettings = PageSettings()
    """The page for people: `visit-consumer page`."""
    log: LogSettings = LogSettings()
    """Logs."""
    shutdown: ShutdownSettings = ShutdownSettings()
    """How long a shutdown may take."""

    @model_validator(mode="after")
    def _closing_times_ordered(self) -> Self:
        for name in self.instruments:
            try:
                self.closing_of(name)
            except ValueError as error:
                raise ValueError(f"instruments.{name}.closing: max_open_s is below close_after_s") from error
        return self

    def instrument(self, name: str) -> InstrumentSettings:
        """Return the settings of an instrument.

        Raises
        ------
        BadMessageError
            If the instrument is not configured.
        """
        try:
            return self.instruments[name]
        except KeyError:
            raise BadMessageError(
                DeadLetterReason.UNKNOWN_INSTRUMENT,
                f"instrument {name!r} is not among the configured ones: {', '.join(sorted(self.instruments))}",
            ) from None

    def closing_of(self, name: str) -> ClosingSettings:
        """Return the closing times that hold for an instrument: its own over the general ones."""
        own = self.instrument(name).closing.model_dump(exclude_none=True)
        return ClosingSettings(**{**self.closing.model_dump(), **own})

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  # the signature is pydantic-settings'
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # the same
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # the same
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take nothing but the arguments: files and environment are merged, with their origins, by `load_settings`."""
        return (init_settings,)
