"""A place with both: the service's tables and a Butler repository, on Debian's PostgreSQL 15."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from consumer.model import Exposure
from tests.support.butler_repository import register_exposures, register_instrument, repository
from tests.support.commands import invoke, invoke_json
from tests.support.databases import ServerOf
from tests.support.exposures import exposure
from tests.support.postgres import DEBIAN_15
from tests.support.service import prepare_database, settings_for


@dataclass(frozen=True, slots=True)
class Site:
    """Tables with visits, and a repository for them."""

    dsn: str
    repo: str
    config: Path
    folder: Path

    def define(self, exposures: Sequence[Exposure], *options: str) -> None:
        """Store the visits of exposures in the tables."""
        lines = "\n".join(json.dumps(asdict(each)) for each in exposures)
        invoke("define", "-", "--instrument", "LSSTComCam", "--dsn", self.dsn, *options, text=lines)

    def sink(self, *options: str, exit_code: int = 0) -> str:
        """Run the sink once; return its summary, which is its last line."""
        result = invoke("butler-sink", "--once", "--config", self.config, *options, exit_code=exit_code)
        return result.stderr.splitlines()[-1]

    def rows(self, *options: str, exit_code: int = 0) -> Any:
        """Return what the command prints as JSON."""
        return invoke_json("butler-sink", "--config", self.config, *options, exit_code=exit_code)


@pytest.fixture
def bare_site(postgres_server_of: ServerOf, tmp_path: Path) -> Iterator[Site]:
    """Give a site whose registry knows no instrument."""
    if not DEBIAN_15.is_dir():
        pytest.skip(f"no PostgreSQL 15 in {DEBIAN_15} (Debian: postgresql-15)")
    server = postgres_server_of("15")
    with server.database(prepare_database) as dsn, repository(server, tmp_path / "repo") as repo:
        config = tmp_path / "sink.yaml"
        config.write_text(yaml.safe_dump(settings_for("nowhere:1", dsn, butler={"repository": repo})))
        yield Site(dsn, repo, config, tmp_path)


@pytest.fixture
def site(bare_site: Site) -> Site:
    """Give a site whose registry has LSSTComCam and its exposures 1 to 6."""
    register_instrument(bare_site.repo, "LSSTComCam", ["r_03", "unknown"], 9)
    register_exposures(bare_site.repo, [exposure(n) for n in range(1, 7)])
    return bare_site
