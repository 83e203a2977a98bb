// One exposure: where it ended, and how it came there, on a line of time.
import { path, useAnswer } from "./api.js";
import { dateTime, duration, words } from "./format.js";
import { Empty, Facts, Failure, Text, visitLink } from "./parts.jsx";

const WIDTH = 720;
const MARGIN = 24;

/** The history as a picture: dots on a line of time, numbered as in the list below it. */
function Timeline({ history }) {
  const times = history.map((each) => Date.parse(each.at));
  const first = Math.min(...times);
  const span = Math.max(...times) - first;
  const x = (at) => (span === 0 ? WIDTH / 2 : MARGIN + ((at - first) / span) * (WIDTH - 2 * MARGIN));
  // Dots that would lie on each other are lifted one above the other.
  const levels = [];
  const dots = times.map((at) => {
    const place = x(at);
    let level = 0;
    while (levels[level] !== undefined && place - levels[level] < 20) level += 1;
    levels[level] = place;
    return { place, level };
  });
  const height = 44 + 20 * levels.length;
  const base = height - 28;
  return (
    <svg class="timeline" viewBox={`0 0 ${WIDTH} ${height}`} role="img" aria-label={`History: ${history.length} steps within ${duration(span / 1000)}`}>
      <line x1={MARGIN} x2={WIDTH - MARGIN} y1={base} y2={base} />
      {dots.map(({ place, level }, index) => (
        <g key={index}>
          <circle cx={place} cy={base - 20 * level} r="9" />
          <text x={place} y={base - 20 * level + 4} class="in">
            {index + 1}
          </text>
        </g>
      ))}
      <text x={span === 0 ? WIDTH / 2 : MARGIN} y={height - 4} class={span === 0 ? "mid" : "begin"}>
        {dateTime(first)} UTC
      </text>
      {span > 0 && (
        <text x={WIDTH - MARGIN} y={height - 4} class="end">
          {duration(span / 1000)} later
        </text>
      )}
    </svg>
  );
}

function Explanation({ explanation }) {
  const { instrument, ending, history, waiting } = explanation;
  return (
    <article class="explanation">
      <h2>
        <span class={`ending ${ending}`}>{words(ending)}</span> <Text>{instrument}</Text>
      </h2>
      <p class="lead">
        <Text>{explanation.summary}</Text>
      </p>
      <Facts
        facts={[
          ["obs_id", explanation.obs_id],
          ["Night (day_obs)", text(explanation.day_obs)],
          ["Group", explanation.group],
          ["Raws arrived", text(explanation.detectors_arrived)],
          ["Raws expected", text(explanation.raws_expected)],
          ["Detectors without a raw", explanation.missing_detectors?.join(", ")],
          ["Visits", <Links instrument={instrument} view="visit" ids={explanation.visits.map((each) => each.id)} />],
          ["Not a visit because", explanation.skips.map((each) => each.detail).join("; ")],
          ["Open group has", waiting && <Links instrument={instrument} view="exposure" ids={waiting.members} />],
          ["Group closes, by the stream's clock", waiting?.closes && `${dateTime(waiting.closes)} UTC (${words(waiting.reason)})`],
          ["Stream's clock", waiting?.stream_time && `${dateTime(waiting.stream_time)} UTC`],
        ]}
      />
      {history.length > 0 && (
        <section>
          <h3>History</h3>
          <Timeline history={history} />
          <ol class="history">
            {history.map((each, index) => (
              <li key={index}>
                <time datetime={each.at}>{dateTime(each.at)} UTC</time> <Text>{each.what}</Text>
              </li>
            ))}
          </ol>
        </section>
      )}
    </article>
  );
}

const text = (number) => (number === undefined || number === null ? null : String(number));

function Links({ instrument, view, ids }) {
  if (ids.length === 0) return "none";
  return ids.map((id) => (
    <a key={id} class="item" href={view === "visit" ? visitLink({ instrument, visit: id }) : `#/exposure/${path(id, instrument)}`}>
      {id}
    </a>
  ));
}

export function Exposure({ parts, version }) {
  const [exposure, instrument] = parts;
  const query = instrument ? `?instrument=${encodeURIComponent(instrument)}` : "";
  const { data, error } = useAnswer(exposure ? `exposures/${path(exposure)}${query}` : null, version);
  return (
    <>
      <h1>
        Exposure <Text>{exposure}</Text>
      </h1>
      <Failure error={error} />
      {data === null && error === null && <Empty>Reading…</Empty>}
      {data?.explanations.length === 0 && <Empty>Nothing is known of this exposure.</Empty>}
      {data?.explanations.map((each) => (
        <Explanation key={each.instrument} explanation={each} />
      ))}
    </>
  );
}
