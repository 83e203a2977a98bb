// What is wrong: messages that were refused, partitions that are not read, replicas, findings of audits.
import { useAnswer } from "./api.js";
import { count, dateTime, duration, night, words } from "./format.js";
import { connection, state } from "./live.js";
import { Empty, Failure, Table, Text } from "./parts.jsx";

function DeadLetters({ reasons }) {
  if (reasons.length === 0) return <Empty>No dead letter is open.</Empty>;
  return reasons.map((each) => (
    <details key={each.reason} class="reason" open={reasons.length < 4}>
      <summary>
        <strong class="count">{count(each.number)}</strong> {words(each.reason)}
        <small>last at {dateTime(each.last_at)} UTC</small>
      </summary>
      <Table caption={`The oldest of ${words(each.reason)}`} columns={[["Id", "number"], ["What is wrong"], ["Of"], ["Message"], ["Recorded (UTC)"]]}>
        {each.first.map((letter) => (
          <tr key={letter.id}>
            <td class="number">{letter.id}</td>
            <td class="long">
              <Text>{letter.detail}</Text>
            </td>
            <td>
              <Text>{letter.instrument}</Text>{" "}
              {letter.exposure !== null && <a href={`#/exposure/${letter.exposure}`}>{letter.exposure}</a>}{" "}
              {letter.group !== null && <Text>{letter.group}</Text>}
            </td>
            <td>
              {letter.topic === null ? "–" : <Text>{`${letter.topic} [${letter.partition}] @ ${letter.offset}`}</Text>}
            </td>
            <td>{dateTime(letter.recorded_at)}</td>
          </tr>
        ))}
      </Table>
    </details>
  ));
}

function Partitions({ partitions }) {
  return (
    <Table
      caption="Partitions that are not read"
      columns={[["Partition"], ["State"], ["Lag", "number"], ["Age", "number"], ["Circuit breaker"], ["Why"]]}
    >
      {partitions.map((each) => (
        <tr key={`${each.consumer_group}/${each.topic}/${each.partition}`}>
          <th scope="row">
            <Text>{`${each.topic} [${each.partition}]`}</Text>
          </th>
          <td>{words(each.state)}</td>
          <td class="number">{count(each.lag)}</td>
          <td class="number">{duration(each.age_s)}</td>
          <td>
            <Text>{each.breaker}</Text>
          </td>
          <td class="long">
            <Text>{each.detail}</Text>
          </td>
        </tr>
      ))}
    </Table>
  );
}

function Replicas({ replicas }) {
  return (
    <Table caption="Replicas of the consumer" columns={[["Replica"], ["Life"], ["State"], ["Silent for", "number"], ["Version"], ["Reasons"]]}>
      {replicas.map((each) => (
        <tr key={each.owner}>
          <th scope="row">
            <Text>{each.owner}</Text>
          </th>
          <td>
            <span class={`life ${each.life}`}>{words(each.life)}</span>
          </td>
          <td>{words(each.state)}</td>
          <td class="number">{duration(each.silent_s)}</td>
          <td>
            <Text>{each.version}</Text>
          </td>
          <td class="long">
            <Text>{each.reasons.join("; ") || null}</Text>
          </td>
        </tr>
      ))}
    </Table>
  );
}

function Audit({ audit }) {
  return (
    <details class="reason" open={audit.errors > 0}>
      <summary>
        <Text>{audit.instrument}</Text> {night(audit.day_obs)}: {count(audit.errors)} errors, {count(audit.warnings)} warnings
        <small>audited at {dateTime(audit.audited_at)} UTC</small>
      </summary>
      {audit.findings.length > 0 && (
        <Table
          caption={`Findings of ${audit.instrument} ${night(audit.day_obs)}`}
          columns={[["Severity"], ["Rule"], ["Of"], ["Found", "number"], ["What"]]}
        >
          {audit.findings.map((each, index) => (
            <tr key={index}>
              <td>{words(each.severity)}</td>
              <td>{words(each.rule)}</td>
              <td>
                <Text>{each.subject}</Text>
              </td>
              <td class="number">
                <Text>{each.found}</Text>
              </td>
              <td class="long">
                <Text>{each.detail}</Text>
              </td>
            </tr>
          ))}
        </Table>
      )}
    </details>
  );
}

export function Trouble() {
  const { data, error } = useAnswer("trouble", state.value?.at);
  const status = state.value?.status;
  return (
    <>
      <h1>Trouble</h1>
      <Failure error={error} />
      {data === null && error === null && <Empty>{connection.value === "live" ? "Reading…" : "Waiting for the service."}</Empty>}
      {data !== null && (
        <>
          {data.problems.length > 0 ? (
            <ul class="problems">
              {data.problems.map((each) => (
                <li key={each}>
                  <Text>{each}</Text>
                </li>
              ))}
            </ul>
          ) : (
            <p class="good">
              <span aria-hidden="true">✓</span> The service reports no problem.
            </p>
          )}
          <h2>
            Dead letters <span class="count">{count(status?.open_dead_letters ?? data.dead_letters.reduce((n, each) => n + each.number, 0))}</span>
          </h2>
          <DeadLetters reasons={data.dead_letters} />
          <h2>Partitions</h2>
          {data.partitions.length === 0 ? <Empty>Every partition is read.</Empty> : <Partitions partitions={data.partitions} />}
          <h2>Replicas</h2>
          {status?.replicas.length ? <Replicas replicas={status.replicas} /> : <Empty>No replica has reported.</Empty>}
          <h2>Audits</h2>
          {data.audits.length === 0 ? (
            <Empty>No audit has found anything.</Empty>
          ) : (
            data.audits.map((each) => <Audit key={`${each.instrument}/${each.day_obs}`} audit={each} />)
          )}
        </>
      )}
    </>
  );
}
