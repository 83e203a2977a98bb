"""Pictures for people: a camera's focal plane, and a visit's footprint on the sky.

matplotlib belongs to the extra ``demo`` and is imported when the first picture is drawn. This module is no part of the
core: it writes files.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from astropy.wcs import WCS

from consumer.errors import ConfigurationError
from consumer.model import VisitRegions
from consumer.regions.camera.geometry import Camera, Floats, Purpose
from consumer.regions.polygons import decode, vertices_deg
from consumer.regions.projection import focal_plane, padded_corners

if TYPE_CHECKING:
    from astropy.visualization.wcsaxes import WCSAxes
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
    where right ascension passes 0. East is on the left, as on the sky.

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
    centre = decode(regions.visit).sum(axis=0)
    wcs = _tangent_plane(centre / np.linalg.norm(centre))
    figure, axes = _new_figure(wcs)
    visit = wcs.wcs_world2pix(vertices_deg(regions.visit), 0)
    reach = float(np.abs(visit).max()) * 1.12
    for detector, region in zip(regions.detectors, regions.detector_regions, strict=True):
        corners = wcs.wcs_world2pix(vertices_deg(region), 0)
        axes.fill(*corners.T, facecolor="#4477aa", edgecolor="#22446e", linewidth=0.5, alpha=0.3)
        if len(regions.detectors) > 1:
            size = _label_size(corners, 2 * reach)
            x, y = corners.mean(axis=0)
            axes.text(x, y, str(detector), ha="center", va="center", fontsize=size, color="#22446e")
    axes.fill(*visit.T, facecolor="none", edgecolor="#cc3311", linewidth=1.8, label="visit")
    axes.fill([], [], facecolor="#4477aa", alpha=0.4, label=f"detectors ({len(regions.detectors)})")
    axes.legend(loc="upper right", framealpha=0.9, fontsize=9)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), title=title)
    sky: WCSAxes = axes
    # At high declinations meridians leave the frame at the right too.
    for axis, name, sides in zip(sky.coords, ("right ascension", "declination"), ("br", "l"), strict=True):
        axis.set_format_unit("deg", decimal=True)
        axis.set_ticks_position(sides)
        axis.set_ticklabel_position(sides)
        axis.set_axislabel(f"{name} [degrees, ICRS]")
        axis.set_axislabel_position(sides[0])
        axis.grid(color="0.75", linewidth=0.6)
    _save(figure, path)


def _new_figure(wcs: WCS | None = None) -> "tuple[Figure, Axes]":
    """Make a figure without any window system behind it; with a WCS, its axes are the sky's."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - belongs to an extra
        from matplotlib.figure import Figure as NewFigure  # noqa: PLC0415 - belongs to an extra
    except ImportError as error:
        raise ConfigurationError(
            "drawing needs matplotlib, which is not installed: pip install '.[demo]' at the top of a checkout"
        ) from error
    figure = NewFigure(figsize=(_SIZE_IN, _SIZE_IN), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot(projection=wcs)


def _save(figure: "Figure", path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI)


def _label_size(outline: Floats, extent: float) -> float:
    """Choose a font size with which a label fits into an outline, (n, 2), in a plot of some extent."""
    narrowest = float(np.ptp(outline, axis=0).min())
    return float(np.clip(narrowest / extent * _SIZE_IN * 72 * 0.22, 2.0, 11.0))


def _tangent_plane(centre: Floats) -> WCS:
    """Make the gnomonic projection at a unit vector: pixels are degrees, west and north of it."""
    ra, dec = np.degrees((np.arctan2(centre[1], centre[0]), np.arcsin(centre[2])))
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.cdelt = [-1.0, 1.0]
    wcs.wcs.crpix = [1.0, 1.0]
    return wcs
