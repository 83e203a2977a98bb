"""Java programs for the tests: a pom names them, Maven fetches them once, a folder outside the tree keeps them.

The folder is named after the pom's content, so that a new version never meets old jars. Nothing is fetched twice, also
not by two test runs that start at the same moment.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_DOWNLOAD_TIMEOUT_S = 900


class JarsUnavailableError(Exception):
    """Java or Maven is missing, or Maven could not fetch the jars; the message says which."""


def cache_directory() -> Path:
    """Return where jars are kept between runs: ``$XDG_CACHE_HOME/visit-consumer``, by default under ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "visit-consumer"


def resolve(pom: Path) -> Path:
    """Return the folder with everything that a pom names, fetching it when it is not there.

    Parameters
    ----------
    pom
        A Maven project file that puts what it names into ``${output}`` in the phase generate-resources; its parent
        folder's name becomes part of the folder's name.

    Raises
    ------
    JarsUnavailableError
        When java or mvn is missing, or Maven fails.
    """
    if shutil.which("java") is None:
        raise JarsUnavailableError("java is not installed (Debian: default-jre-headless)")
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    jars = cache_directory() / f"{pom.parent.name}-{digest}"
    if jars.is_dir():
        return jars
    if shutil.which("mvn") is None:
        raise JarsUnavailableError("mvn is not installed (Debian: maven)")
    jars.parent.mkdir(parents=True, exist_ok=True)
    # One lock for all poms: Maven's own cache is not made for two that fetch at once
    with (jars.parent / "maven.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.is_dir():  # another run may have finished while this one waited for the lock
            _fetch(pom, jars)
    return jars


def _fetch(pom: Path, jars: Path) -> None:
    """Let Maven copy the jars to a temporary folder, which gets its final name only when it is complete."""
    partial = Path(tempfile.mkdtemp(prefix=f"{jars.name}.", dir=jars.parent))
    command = ["mvn", "-q", "-B", "-f", str(pom), "generate-resources", f"-Doutput={partial}"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_S)
        if not any(partial.rglob("*.jar")):
            raise JarsUnavailableError(f"Maven put no jars into {partial} for {pom}")
        partial.rename(jars)
    except subprocess.CalledProcessError as error:
        raise JarsUnavailableError(f"Maven failed on {pom}: {(error.stdout + error.stderr)[-1000:]}") from error
    except subprocess.TimeoutExpired as error:
        raise JarsUnavailableError(f"Maven took longer than {_DOWNLOAD_TIMEOUT_S} s on {pom}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
