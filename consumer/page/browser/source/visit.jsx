// One visit: its record, and its detectors on the sky with the raws that came.
import { useMemo, useState } from "preact/hooks";
import { geoPath } from "d3-geo";
import { path, useAnswer } from "./api.js";
import { count, dateTime, position } from "./format.js";
import { Complete, Empty, Facts, Failure, Filter, Table, Text, visitLink } from "./parts.jsx";
import { polygonOf, projectionAround } from "./sky.js";

const SIZE = 420;
const RAWS = ["arrived", "missing", "unknown"];

/** The detectors of a visit on the sky, north up and east left. */
export function Detectors({ visit }) {
  const [hovered, setHovered] = useState(null);
  const shapes = useMemo(() => {
    const polygons = visit.detectors.map((each) => polygonOf(each.polygon));
    if (polygons.length === 0) return [];
    const draw = geoPath(projectionAround(polygons, SIZE, SIZE));
    return visit.detectors.map((each, index) => ({ ...each, d: draw(polygons[index]) }));
  }, [visit]);
  if (shapes.length === 0) return <Empty>This visit has no regions of detectors.</Empty>;
  const numbers = Object.fromEntries(RAWS.map((raw) => [raw, shapes.filter((each) => each.raw === raw).length]));
  const missing = shapes.filter((each) => each.raw === "missing").map((each) => each.detector);
  const summary = RAWS.filter((raw) => numbers[raw] > 0).map((raw) => `${numbers[raw]} ${raw}`).join(", ");
  return (
    <figure class="detectors">
      <svg viewBox={`0 0 ${SIZE} ${SIZE}`} role="img" aria-label={`${shapes.length} detectors on the sky: ${summary}`}>
        {shapes.map((each) => (
          <path
            key={each.detector}
            d={each.d}
            class={`detector ${each.raw}`}
            data-detector={each.detector}
            onPointerEnter={() => setHovered(each)}
            onPointerLeave={() => setHovered(null)}
          />
        ))}
      </svg>
      <figcaption>
        <ul class="legend">
          {RAWS.filter((raw) => numbers[raw] > 0).map((raw) => (
            <li key={raw}>
              <span class={`swatch ${raw}`} aria-hidden="true" /> {numbers[raw]} {raw}
            </li>
          ))}
        </ul>
        <p class="hovered">
          {hovered ? `Detector ${hovered.detector}: raw ${hovered.raw}` : `${count(shapes.length)} detectors; north up, east left`}
        </p>
        {missing.length > 0 && <p>Missing raws of detectors {missing.join(", ")}.</p>}
      </figcaption>
    </figure>
  );
}

/** The line of facts that the map and the page of a visit share. */
export function VisitFacts({ visit, whole = false }) {
  const facts = [
    ["Filter", <Filter name={visit.physical_filter} />],
    ["Group of exposures", <Complete value={visit.complete} />],
    ["Target", visit.target_name],
    ["Observation reason", visit.observation_reason],
    ["Science program", visit.science_program],
    ["Begin", visit.begin && `${dateTime(visit.begin)} UTC`],
    ["End", visit.end && `${dateTime(visit.end)} UTC`],
    ["Exposure time", visit.exposure_time_s === null ? null : `${visit.exposure_time_s} s`],
    ["Centre (RA, Dec, ICRS)", position(visit.ra_deg, visit.dec_deg)],
  ];
  const more = [
    ["Name", visit.name],
    ["day_obs", String(visit.day_obs)],
    ["seq_num", visit.seq_num],
    ["Group key", visit.group_key],
    ["Rule of grouping", visit.rule],
    ["Closed by", visit.close_reason],
    ["Visit systems", visit.visit_systems.join(", ")],
    ["Algorithm of regions", visit.algorithm],
    ["Camera", visit.camera_version],
    ["Padding", `${visit.padding_pixels} pixels`],
    ["Revision", String(visit.revision)],
    ["Defined", `${dateTime(visit.defined_at)} UTC`],
    ["Last change", `${dateTime(visit.updated_at)} UTC`],
    ["Software", visit.software_version],
  ];
  return <Facts facts={whole ? [...facts, ...more] : facts} />;
}

function Exposures({ visit }) {
  return (
    <Table caption="Exposures" columns={[["Exposure"], ["obs_id"], ["seq_num", "number"], ["Raws arrived", "number"], ["Raws expected", "number"]]}>
      {visit.exposures.map((each) => (
        <tr key={each.exposure}>
          <th scope="row">
            <a href={`#/exposure/${path(each.exposure, visit.instrument)}`}>{each.exposure}</a>
          </th>
          <td>
            <Text>{each.obs_id}</Text>
          </td>
          <td class="number">{each.seq_num ?? "–"}</td>
          <td class="number">{count(each.raws_arrived)}</td>
          <td class="number">{each.raws_expected === null ? "unknown" : count(each.raws_expected)}</td>
        </tr>
      ))}
    </Table>
  );
}

/** What the map shows of the visit that was clicked. */
export function VisitPanel({ instrument, visit, version, onClose }) {
  const { data, error } = useAnswer(`visits/${path(instrument, visit)}`, version);
  return (
    <section class="panel" aria-label="Chosen visit">
      <header>
        <h2>
          Visit <a href={visitLink({ instrument, visit })}>{visit}</a>
        </h2>
        <button type="button" onClick={onClose} aria-label="Close">
          ✕
        </button>
      </header>
      <Failure error={error} />
      {data === null && error === null && <Empty>Reading…</Empty>}
      {data !== null && (
        <>
          <Detectors visit={data} />
          <VisitFacts visit={data} />
        </>
      )}
    </section>
  );
}

export function Visit({ parts, version }) {
  const [instrument, visit] = parts;
  const { data, error } = useAnswer(visit ? `visits/${path(instrument, visit)}` : null, version);
  return (
    <>
      <h1>
        Visit <Text>{visit}</Text> <small class="day"><Text>{instrument}</Text></small>
      </h1>
      <Failure error={error} />
      {data === null && error === null && <Empty>Reading…</Empty>}
      {data !== null && (
        <>
          <p>
            <a href={`#/sky/${data.day_obs}/${path(instrument, visit)}`}>Show on the sky</a>
          </p>
          <div class="columns">
            <section>
              <Detectors visit={data} />
            </section>
            <section class="wide">
              <VisitFacts visit={data} whole />
              <Exposures visit={data} />
            </section>
          </div>
        </>
      )}
    </>
  );
}
