// The sky of a night: footprints of its visits on an all-sky map and on a tangent plane, and the same as a table.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { geoGraticule, geoPath } from "d3-geo";
import { path } from "./api.js";
import { band, completeness, count, dateTime, night as nightText, position, time } from "./format.js";
import { footprints, fresh, keyOf, now, showNight } from "./live.js";
import { Empty, Failure, Filter, Table, Text, visitLink } from "./parts.jsx";
import { centreOf, ECLIPTIC, GALACTIC_PLANE, horizon, polygonOf, projectionOf } from "./sky.js";
import { VisitPanel } from "./visit.jsx";

const ALL = { kind: "all", ra: 0, dec: 0, zoom: 1 };
const TANGENT_ZOOM = 4;
const ZOOMS = { all: [1, 1], tangent: [0.8, 400] };
const ROWS = 25;
const REPLAY_S = 20;
const STEP_MS = 1000;
const BANDS = ["u", "g", "r", "i", "z", "y", "other"];
const GRATICULE = geoGraticule().step([30, 30]).extentMajor([[-180, -90], [180, 90]]);

const clamp = (value, [low, high]) => Math.min(high, Math.max(low, value));
const turn = (ra) => ((ra % 360) + 360) % 360;

/** The footprints of the night with what the map needs of each, in the order in which they were begun. */
function useShapes(byKey) {
  const known = useRef(new WeakMap());
  return useMemo(() => {
    const shapes = [];
    for (const each of byKey.values()) {
      if (!known.current.has(each)) {
        const polygon = polygonOf(each.polygon);
        const begin = each.begin === null ? null : Date.parse(each.begin);
        known.current.set(each, { ...each, key: keyOf(each), polygon, centre: centreOf([polygon]), begin, band: band(each.physical_filter) });
      }
      shapes.push(known.current.get(each));
    }
    return shapes.sort((a, b) => (a.begin ?? 0) - (b.begin ?? 0) || a.visit - b.visit);
  }, [byKey]);
}

/** Follow the size of an element. */
function useSize(element) {
  const [size, setSize] = useState({ width: 720, height: 400 });
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => {
      const { width, height } = entry.contentRect;
      if (width > 0 && height > 0) setSize({ width, height });
    });
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return size;
}

/** Dragging, wheel, pinch and keys: each changes the view. */
function useGestures(element, projection, view, setView) {
  const latest = useRef(null);
  latest.current = { projection, view };
  useEffect(() => {
    const svg = element.current;
    const pointers = new Map();
    const zoomBy = (factor) => setView((old) => ({ ...old, zoom: clamp(old.zoom * factor, ZOOMS[old.kind]) }));
    const move = (dx, dy) =>
      setView((old) => {
        const degrees = 180 / Math.PI / latest.current.projection.scale();
        const ra = turn(old.ra + (dx * degrees) / Math.max(0.1, Math.cos((old.dec * Math.PI) / 180)));
        return { ...old, ra, dec: old.kind === "all" ? 0 : clamp(old.dec + dy * degrees, [-90, 90]) };
      });
    const spread = () => {
      const [a, b] = [...pointers.values()];
      return Math.hypot(a.x - b.x, a.y - b.y);
    };
    const down = (event) => pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, moved: 0 });
    const drag = (event) => {
      const old = pointers.get(event.pointerId);
      if (old === undefined) return;
      const before = pointers.size === 2 ? spread() : 0;
      const [dx, dy] = [event.clientX - old.x, event.clientY - old.y];
      const moved = old.moved + Math.hypot(dx, dy);
      pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, moved });
      if (moved < 4) return; // a click, and no drag
      if (!svg.hasPointerCapture(event.pointerId)) svg.setPointerCapture(event.pointerId);
      if (pointers.size === 2 && before > 0) zoomBy(spread() / before);
      else move(dx, dy);
    };
    const up = (event) => pointers.delete(event.pointerId);
    const wheel = (event) => {
      if (latest.current.view.kind === "all") return; // the page scrolls
      event.preventDefault();
      zoomBy(Math.exp(-event.deltaY / 400));
    };
    const key = (event) => {
      const step = 40;
      const acts = {
        ArrowLeft: () => move(step, 0),
        ArrowRight: () => move(-step, 0),
        ArrowUp: () => move(0, step),
        ArrowDown: () => move(0, -step),
        "+": () => zoomBy(1.4),
        "=": () => zoomBy(1.4),
        "-": () => zoomBy(1 / 1.4),
      };
      if (event.key in acts && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault();
        acts[event.key]();
      }
    };
    const listeners = { pointerdown: down, pointermove: drag, pointerup: up, pointercancel: up, wheel, keydown: key };
    for (const [name, handle] of Object.entries(listeners)) svg.addEventListener(name, handle, { passive: false });
    return () => {
      for (const [name, handle] of Object.entries(listeners)) svg.removeEventListener(name, handle);
    };
  }, []);
}

function Labels({ projection, view }) {
  const hours = view.kind === "all" ? [0, 4, 8, 12, 16, 20].map((h) => [h * 15, 0, `${h}h`]) : [];
  const degrees = view.kind === "all" ? [-60, -30, 30, 60].map((dec) => [view.ra, dec, `${dec > 0 ? "+" : "−"}${Math.abs(dec)}°`]) : [];
  return [...hours, ...degrees].map(([ra, dec, text]) => {
    const at = projection([ra, dec]);
    return (
      <text key={text} class="tick" x={at[0] + 3} y={at[1] - 3}>
        {text}
      </text>
    );
  });
}

function SkyMap({ shapes, view, setView, until, site, atMs, hidden, chosen, onChoose, onHover, hovered, label }) {
  const svg = useRef(null);
  const { width, height } = useSize(svg);
  const projection = useMemo(() => projectionOf(view, width, height), [view, width, height]);
  useGestures(svg, projection, view, setView);
  const draw = useMemo(() => geoPath(projection), [projection]);
  const drawn = useMemo(() => shapes.map((each) => ({ ...each, d: draw(each.polygon) })), [shapes, draw]);
  const lines = useMemo(
    () => ({ sphere: draw({ type: "Sphere" }), graticule: draw(GRATICULE()), ecliptic: draw(ECLIPTIC), galactic: draw(GALACTIC_PLANE) }),
    [draw],
  );
  const minute = Math.floor(atMs / 60_000);
  const ground = useMemo(() => (site === null ? null : draw(horizon(site, minute * 60_000))), [draw, site, minute]);
  const marked = fresh.value;
  return (
    <svg
      ref={svg}
      class={`map ${view.kind}`}
      role="application"
      aria-roledescription="sky map"
      aria-label={label}
      aria-describedby="map-help"
      tabindex={0}
      width="100%"
      viewBox={`0 0 ${width} ${height}`}
    >
      <path class="sphere" d={lines.sphere} />
      <path class="graticule" d={lines.graticule} />
      <path class="ecliptic" d={lines.ecliptic} />
      <path class="galactic" d={lines.galactic} />
      {ground && <path class="horizon" d={ground} />}
      <g class="footprints">
        {drawn.map((each) =>
          each.d === null || hidden.has(each.band) || (until !== null && (each.begin ?? 0) > until) ? null : (
            <path
              key={each.key}
              d={each.d}
              class={`footprint band-${each.band}${marked.has(each.key) ? " fresh" : ""}${each.key === chosen ? " chosen" : ""}`}
              data-visit={each.visit}
              onPointerEnter={() => onHover(each)}
              onPointerLeave={() => onHover(null)}
              onClick={() => onChoose(each)}
            />
          ),
        )}
      </g>
      {hovered?.key && <path class="outline" d={draw(hovered.polygon)} />}
      <Labels projection={projection} view={view} />
    </svg>
  );
}

function Legend({ shapes, hidden, setHidden, site }) {
  const numbers = Object.fromEntries(BANDS.map((each) => [each, 0]));
  for (const each of shapes) numbers[each.band] += 1;
  const toggle = (each) => {
    const next = new Set(hidden);
    if (!next.delete(each)) next.add(each);
    setHidden(next);
  };
  return (
    <div class="legend bands" role="group" aria-label="Bands shown on the map">
      {BANDS.filter((each) => numbers[each] > 0).map((each) => (
        <button key={each} type="button" aria-pressed={!hidden.has(each)} onClick={() => toggle(each)}>
          <span class={`mark band-${each}`} aria-hidden="true" /> {each} <small>{numbers[each]}</small>
        </button>
      ))}
      <span class="line ecliptic">ecliptic</span>
      <span class="line galactic">galactic plane</span>
      {site !== null && (
        <span class="line horizon">
          horizon of <Text>{site.name || "the site"}</Text>
          {site.min_altitude_deg !== 0 && ` (altitude ${site.min_altitude_deg}°)`}
        </span>
      )}
    </div>
  );
}

/** The night as a film: a slider of time, and a button that moves it. */
function Replay({ shapes, until, setUntil }) {
  const [playing, setPlaying] = useState(false);
  const begins = shapes.map((each) => each.begin).filter((each) => each !== null);
  const first = begins[0] ?? 0;
  // The slider has whole steps from its begin.
  const last = first + STEP_MS * Math.ceil(((begins.at(-1) ?? 0) - first) / STEP_MS + 1);
  useEffect(() => {
    if (!playing) return undefined;
    // Whoever asked for less motion sees the night in 20 steps instead of a film.
    const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    let before = performance.now();
    const step = () => {
      const at = performance.now();
      const passed = (at - before) / 1000;
      before = at;
      setUntil((old) => {
        const next = (old ?? first) + (passed / REPLAY_S) * (last - first);
        if (next < last) return next;
        setPlaying(false);
        return null;
      });
    };
    const timer = setInterval(step, isCalm ? 1000 : 50);
    return () => clearInterval(timer);
  }, [playing, first, last]);
  const toggle = () => {
    if (!playing && until === null) setUntil(first);
    setPlaying(!playing);
  };
  const shown = until === null ? "whole night" : `${time(until)} UTC`;
  return (
    <div class="replay">
      <button type="button" onClick={toggle} disabled={begins.length < 2}>
        {playing ? "Pause" : "Replay the night"}
      </button>
      <input
        type="range"
        min={first}
        max={last}
        step={STEP_MS}
        value={until ?? last}
        disabled={begins.length < 2}
        aria-label="Time up to which visits are shown"
        aria-valuetext={shown}
        onInput={(event) => {
          const value = Number(event.currentTarget.value);
          setPlaying(false);
          setUntil(value >= last ? null : value);
        }}
      />
      <span class="until">{shown}</span>
    </div>
  );
}

function FootprintTable({ shapes, day }) {
  const [page, setPage] = useState(0);
  const pages = Math.max(1, Math.ceil(shapes.length / ROWS));
  const at = Math.min(page, pages - 1);
  const rows = shapes.toReversed().slice(at * ROWS, (at + 1) * ROWS);
  return (
    <section class="wide">
      <Table
        caption={`The ${count(shapes.length)} visits on the map, last first`}
        columns={[["Visit"], ["Instrument"], ["Filter"], ["Target"], ["Begin (UTC)"], ["Centre (RA, Dec, ICRS)", "number"], ["Group"]]}
      >
        {rows.map((each) => (
          <tr key={each.key}>
            <th scope="row">
              <a href={`#/sky/${day}/${path(each.instrument, each.visit)}`}>{each.visit}</a>
            </th>
            <td>
              <Text>{each.instrument}</Text>
            </td>
            <td>
              <Filter name={each.physical_filter} />
            </td>
            <td>
              <Text>{each.target_name}</Text>
            </td>
            <td>{each.begin === null ? "–" : time(each.begin)}</td>
            <td class="number">{position(turn(each.centre[0]), each.centre[1])}</td>
            <td>{completeness(each.complete)}</td>
          </tr>
        ))}
      </Table>
      {pages > 1 && (
        <p class="pager">
          <button type="button" disabled={at === 0} onClick={() => setPage(at - 1)}>
            Later
          </button>
          <span>
            {at + 1} of {pages}
          </span>
          <button type="button" disabled={at === pages - 1} onClick={() => setPage(at + 1)}>
            Earlier
          </button>
        </p>
      )}
    </section>
  );
}

export function Sky({ parts, day, site, version }) {
  const [view, setView] = useState(ALL);
  const [until, setUntil] = useState(null);
  const [hovered, setHovered] = useState(null);
  const [hidden, setHidden] = useState(new Set());
  useEffect(() => {
    if (day !== null) showNight(day);
    setUntil(null);
  }, [day]);
  const shapes = useShapes(footprints.value.byKey);
  const [, instrument, visit] = parts;
  const chosen = instrument && visit ? `${instrument}/${visit}` : null;
  const chosenShape = shapes.find((each) => each.key === chosen);
  const nightPart = parts[0] ?? "latest";
  const choose = (each) => {
    location.hash = `#/sky/${nightPart}/${path(each.instrument, each.visit)}`;
  };
  const zoomIn = () => {
    const last = chosenShape ?? shapes.at(-1);
    const [ra, dec] = last?.centre ?? [view.ra, 0];
    setView({ kind: "tangent", ra: turn(ra), dec, zoom: TANGENT_ZOOM });
  };
  const zoomBy = (factor) => setView((old) => ({ ...old, zoom: clamp(old.zoom * factor, ZOOMS[old.kind]) }));
  const isAll = view.kind === "all";
  return (
    <>
      <h1>
        Sky <span class="day">{day === null ? "" : nightText(day)}</span>
      </h1>
      <Failure error={footprints.value.error} />
      <div class="toolbar">
        <div role="group" aria-label="Projection" class="switch">
          <button type="button" aria-pressed={isAll} onClick={() => setView(ALL)}>
            All sky
          </button>
          <button type="button" aria-pressed={!isAll} onClick={zoomIn}>
            Tangent plane
          </button>
        </div>
        {!isAll && (
          <div role="group" aria-label="Zoom" class="switch">
            <button type="button" aria-label="Zoom in" onClick={() => zoomBy(1.6)}>
              +
            </button>
            <button type="button" aria-label="Zoom out" onClick={() => zoomBy(1 / 1.6)}>
              −
            </button>
          </div>
        )}
        <Replay shapes={shapes} until={until} setUntil={setUntil} />
      </div>
      <div class={`skyview ${chosen ? "with-panel" : ""}`}>
        <div class="mapbox">
          <SkyMap
            shapes={shapes}
            view={view}
            setView={setView}
            until={until}
            site={site}
            atMs={until ?? now.value}
            hidden={hidden}
            chosen={chosen}
            hovered={hovered ?? chosenShape ?? null}
            onHover={setHovered}
            onChoose={choose}
            label={`${isAll ? "All-sky map, Mollweide" : "Tangent plane"}: ${shapes.length} visits. The table below lists them.`}
          />
          <p class="hovered">
            {hovered ? (
              <>
                <strong>{hovered.visit}</strong> <Text>{hovered.instrument}</Text> <Filter name={hovered.physical_filter} />{" "}
                <Text>{hovered.target_name}</Text> {hovered.begin !== null && `${dateTime(hovered.begin)} UTC`}
              </>
            ) : day === null ? (
              "Nothing is stored yet. The first visit appears here by itself."
            ) : isAll ? (
              "Equal-area (Mollweide), north up, right ascension grows to the left. Point at a footprint for its name, click it for its detectors."
            ) : (
              `Tangent plane at ${position(view.ra, view.dec)} (RA, Dec, ICRS), east left. Drag to move, wheel or pinch to zoom.`
            )}
          </p>
          <p id="map-help" class="unseen">
            Arrow keys move the map, plus and minus zoom the tangent plane. Everything on it stands in the table below.
          </p>
          <Legend shapes={shapes} hidden={hidden} setHidden={setHidden} site={site} />
        </div>
        {chosen && (
          <VisitPanel instrument={instrument} visit={visit} version={version} onClose={() => (location.hash = `#/sky/${nightPart}`)} />
        )}
      </div>
      {shapes.length > 0 ? <FootprintTable shapes={shapes} day={nightPart} /> : footprints.value.error === null && <Empty>No visit in this night yet.</Empty>}
    </>
  );
}
