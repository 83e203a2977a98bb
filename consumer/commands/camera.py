"""The commands about camera files: ``camera check`` and ``camera plot``."""

import sys
from pathlib import Path

import click

from consumer.commands.options import EXIT_FAILED, examples, reports_errors
from consumer.commands.values import FILE_NAME, FilePath, printable
from consumer.demo.plots import plot_focal_plane
from consumer.regions import find_or_load
from consumer.regions.camera.check import Severity, check_camera

_PICTURES = (".png", ".pdf", ".svg")


@click.group()
def camera() -> None:
    """Check and draw camera geometry; the format is described in consumer/regions/camera/data/README.md."""


@camera.command(epilog=examples("visit-consumer camera check twincam.json"))
@click.argument("files", nargs=-1, required=True, type=FilePath(exists=True, dir_okay=False, path_type=Path))
@reports_errors
def check(files: tuple[Path, ...]) -> None:
    """Check camera FILES; the exit code is 1 if one of them has an error."""
    bad = False
    for file in files:
        problems = check_camera(file)
        bad = bad or any(problem.severity is Severity.ERROR for problem in problems)
        for problem in problems:
            click.echo(printable(f"{file}: {problem.severity.value}: {problem.text}"))
        if not problems:
            click.echo(printable(f"{file}: good"))
    sys.exit(EXIT_FAILED if bad else 0)


@camera.command(
    epilog=examples(
        "visit-consumer camera plot lsstcam",
        "visit-consumer camera plot twincam.json twincam.pdf",
    )
)
@click.argument("name", type=FILE_NAME)
@click.argument("picture", required=False, type=FilePath(dir_okay=False, path_type=Path))
@reports_errors
def plot(name: str, picture: Path | None) -> None:
    """Draw the focal plane of a camera, a built-in NAME or a file, into PICTURE (.png, .pdf, .svg).

    Without PICTURE the file is called as the camera, with .png, in this folder.
    """
    found = find_or_load(name)
    target = picture or Path(f"{found.name.lower()}.png")
    if target.suffix.lower() not in _PICTURES:
        raise click.UsageError(printable(f"{target}: a picture ends with one of {', '.join(_PICTURES)}"))
    plot_focal_plane(found, target)
    click.echo(printable(f"{found.name}: {len(found.detectors)} detectors drawn in {target}"))
