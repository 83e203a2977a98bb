// The geometry of the maps; projections are d3's. Right ascension grows to the left, as one sees the sky.
import { geoArea, geoCircle, geoCentroid, geoGnomonic } from "d3-geo";
import { geoMollweide } from "d3-geo-projection";

const ECLIPTIC_POLE = [270, 66.5607]; // J2000
const GALACTIC_POLE = [192.85948, 27.12825]; // ICRS
const TANGENT_EDGE_DEG = 60;

const ring = (pole, radius) => ({
  type: "LineString",
  coordinates: geoCircle().center(pole).radius(radius).precision(2)().coordinates[0],
});

export const ECLIPTIC = ring(ECLIPTIC_POLE, 90);
export const GALACTIC_PLANE = ring(GALACTIC_POLE, 90);

/** The horizon of a site at a moment (UTC, milliseconds; UT1 is within a second of it, 15 arc seconds). */
export function horizon(site, utcMs) {
  const days = utcMs / 86_400_000 + 2_440_587.5 - 2_451_545;
  const siderealDeg = 280.46061837 + 360.98564736629 * days + site.longitude_deg; // Meeus, Astronomical Algorithms, 12.4
  return ring([((siderealDeg % 360) + 360) % 360, site.latitude_deg], 90 - site.min_altitude_deg);
}

/** A flat list [ra, dec, ra, dec, ...], degrees, as a polygon; d3 takes the left of the line for the outside. */
export function polygonOf(flat) {
  const outline = [];
  for (let i = 0; i < flat.length; i += 2) outline.push([flat[i], flat[i + 1]]);
  outline.push(outline[0]);
  const polygon = { type: "Polygon", coordinates: [outline] };
  return geoArea(polygon) > 2 * Math.PI ? { type: "Polygon", coordinates: [outline.toReversed()] } : polygon;
}

export const centreOf = (polygons) => geoCentroid({ type: "GeometryCollection", geometries: polygons });

/** Make the projection of a view: {kind: "all"|"tangent", ra, dec, zoom} on width x height. */
export function projectionOf(view, width, height) {
  const isAll = view.kind === "all";
  const projection = isAll ? geoMollweide() : geoGnomonic().clipAngle(TANGENT_EDGE_DEG);
  const scale = isAll ? Math.min(width / 5.75, height / 2.9) : Math.min(width, height) / 2;
  return projection
    .reflectX(true)
    .rotate(isAll ? [-view.ra, 0] : [-view.ra, -view.dec])
    .scale(scale * view.zoom)
    .translate([width / 2, height / 2])
    .clipExtent(isAll ? null : [[-20, -20], [width + 20, height + 20]])
    .precision(0.5);
}

/** Make a tangent projection that just holds what is to be seen. */
export function projectionAround(polygons, width, height) {
  const [ra, dec] = centreOf(polygons);
  return geoGnomonic()
    .reflectX(true)
    .rotate([-ra, -dec])
    .clipAngle(TANGENT_EDGE_DEG)
    .fitExtent([[8, 8], [width - 8, height - 8]], { type: "GeometryCollection", geometries: polygons });
}
