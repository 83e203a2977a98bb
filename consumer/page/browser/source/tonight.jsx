// A night at a glance.
import { useAnswer } from "./api.js";
import { count, duration, night as nightText, percent, time } from "./format.js";
import { connection } from "./live.js";
import { Empty, Failure, Filter, Table, Text, VisitTable } from "./parts.jsx";

function Figure({ name, value, note, kind = "" }) {
  return (
    <div class={`figure ${kind}`}>
      <dt>{name}</dt>
      <dd>
        <strong>{value}</strong>
        {note && <small>{note}</small>}
      </dd>
    </div>
  );
}

export function Tonight({ day, night, version }) {
  const fetched = useAnswer(night === undefined && day !== null ? `nights/${day}` : null, version);
  const shown = night ?? fetched.data;
  if (!shown) {
    return (
      <>
        <h1>Tonight</h1>
        <Failure error={fetched.error} />
        {fetched.error === null && <Empty>{connection.value === "live" ? "Reading…" : "Waiting for the service."}</Empty>}
      </>
    );
  }
  if (shown.day_obs === null) {
    return (
      <>
        <h1>Tonight</h1>
        <Empty>Nothing is stored yet. The first visit appears here by itself.</Empty>
      </>
    );
  }
  const { latency } = shown;
  const last = shown.last_visits[0];
  return (
    <>
      <h1>
        {night === undefined ? "Night" : "Tonight"} <span class="day">{nightText(shown.day_obs)}</span>
      </h1>
      <dl class="figures">
        <Figure name="Visits" value={count(shown.visits)} note={`of ${count(shown.exposures)} exposures`} />
        <Figure
          name="Complete"
          value={percent(shown.complete, shown.visits)}
          note={`${count(shown.incomplete)} incomplete, ${count(shown.visits - shown.complete - shown.incomplete)} unknown`}
          kind={shown.incomplete > 0 ? "warns" : ""}
        />
        <Figure name="Latency, median" value={duration(latency?.p50_s)} note="end of exposure to commit" />
        <Figure name="Latency, p99" value={duration(latency?.p99_s)} note={latency ? `of ${count(latency.visits)} visits` : ""} />
        <Figure name="Last visit written" value={last ? time(last.updated_at) : "–"} note="UTC" />
      </dl>
      <Failure error={fetched.error} />
      <div class="columns tonight">
        <section>
          <Table
            caption="By instrument and filter"
            columns={[["Instrument"], ["Filter"], ["Exposures", "number"], ["Visits", "number"], ["Complete", "number"], ["Share"]]}
          >
            {shown.counts.map((each) => (
              <tr key={`${each.instrument}/${each.physical_filter}`}>
                <td>
                  <Text>{each.instrument}</Text>
                </td>
                <td>
                  <Filter name={each.physical_filter} />
                </td>
                <td class="number">{count(each.exposures)}</td>
                <td class="number">{count(each.visits)}</td>
                <td class="number">{percent(each.complete, each.visits)}</td>
                <td>
                  <meter
                    min={0}
                    max={Math.max(1, shown.visits)}
                    value={each.visits}
                    aria-label={`Share of visits: ${percent(each.visits, shown.visits)}`}
                  />
                </td>
              </tr>
            ))}
          </Table>
        </section>
        <section class="wide">
          <VisitTable caption="Last visits, newest first" visits={shown.last_visits} />
        </section>
      </div>
    </>
  );
}
