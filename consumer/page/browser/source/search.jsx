// Search by id, obs_id, name, group, target or position.
import { path, useAnswer } from "./api.js";
import { night, position } from "./format.js";
import { Empty, Failure, Table, Text } from "./parts.jsx";

function target(result) {
  if (result.kind === "visit") return `#/visit/${path(result.instrument, result.id)}`;
  if (result.kind === "exposure") return `#/exposure/${path(result.id, result.instrument)}`;
  return "#/waiting";
}

export function Search({ parts }) {
  const text = parts[0] ?? "";
  const { data, error } = useAnswer(text ? `search?q=${encodeURIComponent(text)}&limit=100` : null);
  return (
    <>
      <h1>Search</h1>
      <p class="lead">
        {data?.position ? `Visits that cover ${position(data.position.ra_deg, data.position.dec_deg)} (RA, Dec, ICRS)` : <>For “<Text>{text}</Text>”</>}
      </p>
      <Failure error={error} />
      {text && data === null && error === null && <Empty>Searching…</Empty>}
      {data?.results.length === 0 && (
        <Empty>Nothing is found. Search takes an id, an obs_id, a name, a group, the beginning of a target, or a position such as 53.1 -27.8.</Empty>
      )}
      {data?.results.length > 0 && (
        <Table caption={`${data.results.length}${data.truncated ? " of more" : ""} found`} columns={[["Kind"], ["Id"], ["Instrument"], ["Night"], ["What"]]}>
          {data.results.map((each) => (
            <tr key={`${each.kind}/${each.instrument}/${each.id}`}>
              <td>{each.kind}</td>
              <th scope="row">
                <a href={target(each)}>
                  <Text>{String(each.id)}</Text>
                </a>
              </th>
              <td>
                <Text>{each.instrument}</Text>
              </td>
              <td>{each.day_obs === null ? "–" : night(each.day_obs)}</td>
              <td>
                <Text>{each.label}</Text>
              </td>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
}
