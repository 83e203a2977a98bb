"""Settings of the Butler sink."""

from typing import Annotated, Literal

from pydantic import Field

from consumer.config.sections import Section


class ButlerSettings(Section):
    """Writing visits into a Butler registry: `visit-consumer butler-sink`."""

    repository: Annotated[str, Field(min_length=1)] | None = None
    """The repository: a folder, a URI or a label of the Butler's index; `--repo` overrides it."""
    name: Annotated[str, Field(min_length=1, max_length=100)] = "main"
    """Name of the sink. Its position is kept under it: each repository needs a sink of another name."""
    exposures: Literal["wait", "insert"] = "wait"
    """What to do when the registry lacks an exposure of a visit. `wait`: until another client registers it. `insert`:
    register it, with its observing day and its group; instruments and physical filters must be there."""
    max_visits: Annotated[int, Field(ge=1, le=1000)] = 50
    """Largest number of visits in one transaction of the registry."""
    interval_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """How often the sink looks, at least, for visits that were written in the last hour. A replica that has committed
    something wakes it; where its session cannot listen (a pooler, a read replica), it looks each second."""
    complete_look_s: Annotated[float, Field(gt=0, le=86400)] = 300.0
    """How often it looks through all visits, for those that a slow transaction committed late."""
    waiting_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """How often it asks the registry for exposures that are missing."""
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8083
    """Port of the sink's metrics and probes; 0: any free port. The address is `http.host`."""
