// Groups that are open: what each waits for, and how long it still may.
import { count, dateTime, duration, time } from "./format.js";
import { connection, groups, now } from "./live.js";
import { Empty, Table, Text } from "./parts.jsx";

/** Seconds until a group closes. Its deadline is of the stream's clock, which runs on with ours since the answer. */
function secondsLeft(group, received) {
  if (group.stream_time === null || group.closes === null) return null;
  return (Date.parse(group.closes) - Date.parse(group.stream_time) - (now.value - received)) / 1000;
}

function Deadline({ group, received }) {
  const left = secondsLeft(group, received);
  if (left === null) return <span>unknown</span>;
  const whole = Date.parse(group.closes) - Date.parse(group.opened);
  return (
    <span class="deadline">
      <span class={left < 0 ? "overdue" : ""}>{left > 0 ? `in ${duration(Math.ceil(left))}` : "with the next message"}</span>
      {whole > 0 && (
        <progress max={whole / 1000} value={Math.max(0, left)} aria-label="Time left of the whole wait" />
      )}
    </span>
  );
}

export function Waiting() {
  const shown = groups.value;
  return (
    <>
      <h1>Waiting</h1>
      {shown === null && <Empty>{connection.value === "live" ? "Reading…" : "Waiting for the service."}</Empty>}
      {shown !== null && shown.total === 0 && <Empty>No group is open: everything that came is a visit, or in Trouble.</Empty>}
      {shown !== null && shown.total > 0 && (
        <>
          <p class="lead">
            {count(shown.total)} open {shown.total === 1 ? "group" : "groups"}
            {shown.total > shown.groups.length && `, the oldest ${shown.groups.length} are listed`}. A group closes when what
            it waits for has come, or at its deadline by the clock of the stream.
          </p>
          <Table
            caption="Open groups, oldest first"
            columns={[["Group"], ["Instrument"], ["Exposures", "number"], ["Waits for"], ["Opened (UTC)"], ["Closes"]]}
          >
            {shown.groups.map((each) => (
              <tr key={`${each.instrument}/${each.group}`} data-group={each.group}>
                <th scope="row">
                  <Text>{each.group}</Text>
                </th>
                <td>
                  <Text>{each.instrument}</Text>
                </td>
                <td class="number">
                  {Array.isArray(each.exposures)
                    ? each.exposures.map((id) => (
                        <a key={id} class="item" href={`#/exposure/${id}`}>
                          {id}
                        </a>
                      ))
                    : count(each.exposures)}
                </td>
                <td>
                  <Text>{each.waits_for}</Text>
                </td>
                <td>
                  <time datetime={each.opened} title={dateTime(each.opened)}>
                    {time(each.opened)}
                  </time>
                </td>
                <td>
                  <Deadline group={each} received={shown.received} />
                </td>
              </tr>
            ))}
          </Table>
        </>
      )}
    </>
  );
}
