"""Headers of all kinds, good and bad, drawn by a seeded generator."""

import math
from collections.abc import Mapping

import numpy as np

from tests.support.skies import written

ZENITHAL = ("TAN", "STG", "SIN", "ARC", "ZEA", "ZPN", "AIR", "AZP", "SZP")
OTHERS = (
    "CYP", "CEA", "CAR", "MER", "SFL", "PAR", "MOL", "AIT", "COP", "COE", "COD", "COO", "BON", "PCO", "TSC", "CSC",
    "QSC", "HPX", "XPH", "TAB", "TNX", "ZPX", "NCP", "GLS", "DSS",
)  # fmt: skip
SIZE = (2048, 4096)


def good_header(random: np.random.Generator) -> str:
    """Draw a header that astropy reads: any frame, projection, matrix and distortion that observatories use."""
    kind = str(random.choice(["plain", "plain", "sip", "tpv", "zpn"]))
    scale = 10.0 ** random.uniform(-5.0, -4.0)
    names, frame = _frame(random)
    projection = {"plain": str(random.choice(["TAN", "STG", "ARC", "ZEA"])), "sip": "TAN", "tpv": "TPV", "zpn": "ZPN"}[
        kind
    ]
    types = [f"{name}{projection}" + ("-SIP" if kind == "sip" else "") for name in names]
    place = [random.uniform(0.0, 360.0), math.degrees(math.asin(random.uniform(-1.0, 1.0)))]
    order = [1, 2] if random.random() < 0.7 else [2, 1]
    cards: dict[str, object] = {"NAXIS": 2, "NAXIS1": SIZE[0], "NAXIS2": SIZE[1]}
    for axis, kind_of, value in zip(order, types, place, strict=True):
        cards |= {f"CTYPE{axis}": kind_of, f"CRVAL{axis}": value, f"CRPIX{axis}": float(random.uniform(-500, 3000))}
    cards |= {**frame, **_matrix(random, scale)}
    if kind == "sip":
        cards |= _sip(random)
    elif kind == "tpv":
        for axis in (1, 2):
            cards |= {f"PV{axis}_0": 0.0, f"PV{axis}_1": 1.0} | {
                f"PV{axis}_{n}": float(random.normal(0.0, 1e-3)) for n in random.choice(range(2, 11), 4, replace=False)
            }
    elif kind == "zpn":
        cards |= {
            f"PV{order[1]}_{n}": value for n, value in ((0, 0.0), (1, 1.0), (3, float(random.uniform(0.0, 50.0))))
        }
    if random.random() < 0.2:
        cards["LONPOLE"] = 180.0
    return written(cards)


def _frame(random: np.random.Generator) -> tuple[tuple[str, str], Mapping[str, object]]:
    equatorial, galactic = ("RA---", "DEC--"), ("GLON-", "GLAT-")
    choices: list[tuple[tuple[str, str], Mapping[str, object]]] = [
        (equatorial, {}),
        (equatorial, {"RADESYS": "ICRS"}),
        (equatorial, {"RADESYS": "ICRS", "EQUINOX": 2016.0}),
        (equatorial, {"RADESYS": "FK5", "EQUINOX": 2000.0}),
        (equatorial, {"RADESYS": "FK5", "EQUINOX": float(random.uniform(1975.0, 2030.0))}),
        (equatorial, {"RADECSYS": "FK5"}),
        (equatorial, {"EQUINOX": 2000.0}),
        (equatorial, {"EQUINOX": 1950.0}),
        (equatorial, {"EPOCH": 1950.0}),
        (equatorial, {"RADESYS": "FK4", "EQUINOX": float(random.uniform(1900.0, 1983.0))}),
        (equatorial, {"RADESYS": "FK4-NO-E", "EQUINOX": 1950.0}),
        (equatorial, {"RADESYS": " ", "EQUINOX": 2000.0}),
        (galactic, {}),
        (galactic, {"RADESYS": "FK5", "EQUINOX": 2000.0}),
    ]
    return choices[int(random.integers(len(choices)))]


def _matrix(random: np.random.Generator, scale: float) -> Mapping[str, object]:
    angle = random.uniform(0.0, 2 * math.pi)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) * [[-1.0], [1.0]]
    turn = turn * (1.0 + random.normal(0.0, 0.01, (2, 2)))
    form = str(random.choice(["CD", "PC", "PC00", "CROTA", "CDELT"]))
    pairs = [(i, j) for i in (1, 2) for j in (1, 2)]
    if form == "CD":
        return {f"CD{i}_{j}": float(turn[i - 1, j - 1] * scale) for i, j in pairs}
    steps: dict[str, object] = {"CDELT1": -scale, "CDELT2": scale}
    if form == "PC":
        return steps | {f"PC{i}_{j}": float(turn[i - 1, j - 1]) for i, j in pairs}
    if form == "PC00":
        return steps | {f"PC00{i}00{j}": float(turn[i - 1, j - 1]) for i, j in pairs}
    return steps if form == "CDELT" else steps | {"CROTA2": math.degrees(angle)}


def _sip(random: np.random.Generator) -> Mapping[str, object]:
    cards: dict[str, object] = {}
    for name in ("A", "B"):
        order = int(random.integers(2, 5))
        cards[f"{name}_ORDER"] = order
        for p in range(order + 1):
            for q in range(order + 1 - p):
                if p + q > 1 and random.random() < 0.6:
                    cards[f"{name}_{p}_{q}"] = float(random.normal(0.0, 1e-3) * 10.0 ** (-3 * (p + q - 1)))
        if random.random() < 0.5:
            cards[f"{name}_DMAX"] = 0.58
    return cards


def hostile_header(random: np.random.Generator) -> str:
    """Draw a header that may be anything: every projection, WAT text whole, cut and wrong, PV and SIP of any order."""
    projection = str(random.choice([*ZENITHAL, *OTHERS]))
    cards: dict[str, object] = {
        "NAXIS": 2, "NAXIS1": SIZE[0], "NAXIS2": SIZE[1],
        "CTYPE1": f"RA---{projection}", "CTYPE2": f"DEC--{projection}",
        "CRVAL1": float(random.uniform(-400, 400)), "CRVAL2": float(random.uniform(-100, 100)),
        "CRPIX1": float(random.uniform(-1e4, 1e4)), "CRPIX2": float(random.uniform(-1e4, 1e4)),
    }  # fmt: skip
    cards |= _matrix(random, 10.0 ** random.uniform(-7, -2))
    if projection in {"TNX", "ZPX"} or random.random() < 0.2:
        cards |= _wat(random, projection)
    if random.random() < 0.5:
        for _ in range(int(random.integers(1, 40))):
            cards[f"PV{random.integers(1, 4)}_{random.integers(0, 120)}"] = float(random.normal(0.0, 100.0))
    if random.random() < 0.3:
        cards |= {"A_ORDER": int(random.integers(-3, 40)), "B_ORDER": int(random.integers(-3, 40)), **_sip(random)}
    if random.random() < 0.1:
        cards[str(random.choice(["LONPOLE", "LATPOLE", "CDELT1", "CD1_1", "EQUINOX", "WCSAXES"]))] = float(
            random.choice([0.0, -1.0, 1e308, 1e-308, 999.0])
        )
    return written(cards)


def _wat(random: np.random.Generator, projection: str) -> Mapping[str, object]:
    cards: dict[str, object] = {"WAT0_001": "system=image"}
    for axis, word in ((1, "lngcor"), (2, "latcor")):
        numbers = [3.0, 4.0, 4.0, 2.0, *random.normal(0.0, 0.3, int(random.integers(0, 40)))]
        if random.random() < 0.3:
            numbers[int(random.integers(4))] = float(random.choice([0.0, -1.0, 99.0, 1e6, 1e300]))
        blank = " " if random.random() < 0.7 else ""
        name = "ra" if axis == 1 else "dec"
        text = f'wtype={projection.lower()} axtype={name} {word} = "{blank}{" ".join(map(repr, map(float, numbers)))} "'
        if random.random() < 0.2:
            text = text[: int(random.integers(len(text)))]
        for number, start in enumerate(range(0, len(text), 68), 1):
            cards[f"WAT{axis}_{number:03d}"] = text[start : start + 68]
    return cards
