"""Pictures for people: a camera's focal plane, and a visit's footprint on the sky.

matplotlib belongs to the extra ``demo`` and is imported when the first picture is drawn. This module is no part of the
core: it writes files.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from consumer.errors import ConfigurationError
from consumer.model import VisitRegions
from consumer.regions.camera.geometry import Camera, Floats, Purpose
from consumer.regions.polygons import decode
from consumer.regions.projection import focal_plane, padded_corners

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS: Final[Mapping[Purpose, str]] = {
    Purpose.SCIENCE: "#4477aa",
    Purpose.GUIDER: "#228833",
    Purpose.WAVEFRONT: "#ee6677",
    Purpose.FOCUS: "#ccbb44",
}
"""Paul Tol's bright scheme: told apart by people with any colour vision."""

_SIZE_IN: Final = 8.0
_DPI: Final = 130
_CROWDED: Final = 120
"""With more detectors than this, a name is a few pixels high."""


def plot_focal_plane(camera: Camera, path: Path) -> None:
    """Draw the detectors of a camera in focal plane coordinates, coloured by purpose.

    Parameters
    ----------
    camera
        The camera.
    path
        The picture; its suffix says the format (``.png``, ``.pdf``, ``.svg``).

    Raises
    ------
    ConfigurationError
        If matplotlib is not installed.
    """
    figure, axes = _new_figure()
    outlines = np.stack([focal_plane(d, padded_corners(d, 0)) for d in camera.detectors])
    extent = float(np.ptp(outlines.reshape(-1, 2), axis=0).max())
    for detector, outline in zip(camera.detectors, outlines, strict=True):
        colour = _COLOURS[detector.purpose]
        axes.fill(*outline.T, facecolor=colour, edgecolor="white", linewidth=0.6, alpha=0.85)
        # The side of the first pixel row shows how the detector is turned.
        axes.plot(*outline[:2].T, color="black", linewidth=1.0, alpha=0.6)
        x, y = outline.mean(axis=0)
        label = str(detector.id) if len(camera.detectors) > _CROWDED else f"{detector.name}\n{detector.id}"
        size = _label_size(outline, extent)
        axes.text(x, y, label, ha="center", va="center", fontsize=size, color="white")
    used = [p for p in Purpose if any(d.purpose is p for d in camera.detectors)]
    for purpose in used:
        number = sum(d.purpose is purpose for d in camera.detectors)
        axes.fill([], [], facecolor=_COLOURS[purpose], label=f"{purpose} ({number})")
    axes.legend(loc="upper right", frameon=False, fontsize=9)
    axes.set(xlabel="focal plane x [mm]", ylabel="focal plane y [mm]", aspect="equal")
    axes.set_title(f"{camera.name}, version {camera.version}: {len(camera.detectors)} detectors")
    _save(figure, path)


def plot_footprint(regions: VisitRegions, path: Path, title: str = "") -> None:
    """Draw the regions of a visit and of its detectors on the sky.

    The projection is a tangent plane at the middle of the visit: right at the poles, and nothing special happens
    where right ascension passes 0. Lines of right ascension and declination are drawn through it.

    Parameters
    ----------
    regions
        The regions.
    path
        The picture; its suffix says the format.
    title
        Stands above it.

    Raises
    ------
    ConfigurationError
        If matplotlib is not installed.
    """
    figure, axes = _new_figure()
    visit = decode(regions.visit)
    centre = visit.sum(axis=0)
    centre /= np.linalg.norm(centre)
    outline = _closed(_tangent_plane(visit, centre))
    reach = float(np.abs(outline).max()) * 1.12
    _draw_graticule(axes, centre, reach)
    for detector, region in zip(regions.detectors, regions.detector_regions, strict=True):
        corners = _tangent_plane(decode(region), centre)
        axes.fill(*corners.T, facecolor="#4477aa", edgecolor="#22446e", linewidth=0.5, alpha=0.3)
        if len(regions.detectors) > 1:
            size = _label_size(corners, 2 * reach)
            x, y = corners.mean(axis=0)
            axes.text(x, y, str(detector), ha="center", va="center", fontsize=size, color="#22446e")
    axes.plot(*outline.T, color="#cc3311", linewidth=1.8, label="visit")
    axes.fill([], [], facecolor="#4477aa", alpha=0.4, label=f"detectors ({len(regions.detectors)})")
    axes.legend(loc="upper right", framealpha=0.9, fontsize=9)
    # East is on the left, as on the sky.
    axes.set(xlim=(reach, -reach), ylim=(-reach, reach), aspect="equal")
    ra, dec = _ra_dec_deg(centre)
    axes.set(xlabel=f"degrees east of RA {ra:.4f}°", ylabel=f"degrees north of Dec {dec:+.4f}°")
    axes.set_title(title)
    _save(figure, path)


def _new_figure() -> "tuple[Figure, Axes]":
    """Make a figure without any window system behind it."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - belongs to an extra
        from matplotlib.figure import Figure as NewFigure  # noqa: PLC0415 - belongs to an extra
    except ImportError as error:
        raise ConfigurationError(
            "drawing needs matplotlib, which is not installed: pip install 'visit-consumer[demo]'"
        ) from error
    figure = NewFigure(figsize=(_SIZE_IN, _SIZE_IN), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _save(figure: "Figure", path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI)


def _label_size(outline: Floats, extent: float) -> float:
    """Choose a font size with which a label fits into an outline, (n, 2), in a plot of some extent."""
    narrowest = float(np.ptp(outline, axis=0).min())
    return float(np.clip(narrowest / extent * _SIZE_IN * 72 * 0.22, 2.0, 11.0))


def _closed(points: Floats) -> Floats:
    return np.concatenate((points, points[:1]))


def _ra_dec_deg(vector: Floats) -> tuple[float, float]:
    x, y, z = vector.tolist()
    return float(np.degrees(np.arctan2(y, x)) % 360), float(np.degrees(np.arctan2(z, np.hypot(x, y))))


def _tangent_plane(vectors: Floats, centre: Floats) -> Floats:
    """Project (n, 3) unit vectors gnomonically: (n, 2), degrees east and north of the centre; NaN behind it."""
    ra, dec = np.radians(_ra_dec_deg(centre))
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    north = np.array([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    depth = vectors @ centre
    depth = np.where(depth > 0.1, depth, np.nan)  # noqa: PLR2004 - beyond 84 degrees is off every picture
    plane: Floats = np.degrees(np.stack((vectors @ east / depth, vectors @ north / depth), axis=-1))
    return plane


def _draw_graticule(axes: "Axes", centre: Floats, reach: float) -> None:
    """Draw lines of equal right ascension and declination, labelled at the edge of the frame."""
    ra, dec = _ra_dec_deg(centre)
    step = _round_step(reach / 2)
    # Near a pole, meridians converge: there they are as far apart as they are at the frame's edge.
    span = np.cos(np.radians(max(abs(dec) - reach * 0.7, 0.0)))
    ra_step = min(_round_step(reach / 2 / max(float(span), 1e-3)), 30.0)
    dec_lines = np.arange(np.ceil((dec - 2 * reach) / step), np.floor((dec + 2 * reach) / step) + 1) * step
    dec_lines = dec_lines[np.abs(dec_lines) < 90 - step / 10]
    whole_circle = abs(dec) + 2 * reach >= 90  # noqa: PLR2004 - a pole is in the picture
    half = 180.0 if whole_circle else min(2 * reach / max(np.cos(np.radians(abs(dec) + reach)), 1e-3), 180.0)
    if whole_circle:
        ra_lines = np.arange(0.0, 360.0, 30.0)
    else:
        ra_lines = np.arange(np.ceil((ra - half) / ra_step), np.floor((ra + half) / ra_step) + 1) * ra_step
    dec_low, dec_high = max(dec - 2 * reach, -90.0), min(dec + 2 * reach, 90.0)
    for line in ra_lines:
        points = _sky_line(np.full(400, line), np.linspace(dec_low, dec_high, 400), centre)
        _draw_line(axes, points, f"{line % 360:g}°", reach, along_bottom=True)
    for line in dec_lines:
        points = _sky_line(np.linspace(ra - half, ra + half, 400), np.full(400, line), centre)
        _draw_line(axes, points, f"{line:+g}°", reach, along_bottom=False)


def _sky_line(ra_deg: Floats, dec_deg: Floats, centre: Floats) -> Floats:
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    vectors = np.stack((np.cos(ra) * np.cos(dec), np.sin(ra) * np.cos(dec), np.sin(dec)), axis=-1)
    return _tangent_plane(vectors, centre)


def _draw_line(axes: "Axes", points: Floats, label: str, reach: float, *, along_bottom: bool) -> None:
    axes.plot(*points.T, color="0.75", linewidth=0.6, zorder=0)
    inside = points[(np.abs(points) < reach).all(axis=-1)]
    if not len(inside):
        return
    # A meridian is labelled where it leaves the frame: at the bottom, or away from a pole in the picture.
    leaves = inside[np.argmax(np.abs(inside).max(axis=-1) - 0.2 * inside[:, 1])]
    at = leaves if along_bottom else inside[np.argmax(inside[:, 0])]
    offset = (0, 3 if at[1] < 0 else -9) if along_bottom else (3, 0)
    horizontal, vertical = ("center", "bottom") if along_bottom else ("left", "center")
    axes.annotate(
        label,
        (float(at[0]), float(at[1])),
        xytext=offset,
        textcoords="offset points",
        fontsize=7,
        color="0.45",
        ha=horizontal,
        va=vertical,
    )


def _round_step(value: float) -> float:
    """Choose the largest of 1, 2, 5 times a power of ten that is not above a value."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(max(m * power for m in (1, 2, 5) if m * power <= value * (1 + 1e-12)))
