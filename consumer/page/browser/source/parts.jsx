// Small parts that several views show. Every datum is a text node: nothing here, or anywhere, sets HTML.
import { path } from "./api.js";
import { band, completeness, dateTime, time } from "./format.js";

export const visitLink = (each) => `#/visit/${path(each.instrument, each.visit)}`;

/** A datum of others, kept from changing the direction of the text around it. */
export const Text = ({ children }) => <bdi class="datum">{children ?? "–"}</bdi>;

/** A filter with a mark in the colour of its band. */
export function Filter({ name }) {
  return (
    <span class="filter">
      <span class={`mark band-${band(name)}`} aria-hidden="true" />
      <Text>{name ?? "no filter"}</Text>
    </span>
  );
}

const SIGNS = { complete: "✓", incomplete: "!", unknown: "?" };

/** Whether a visit has all exposures of its group, as a sign and a word. */
export function Complete({ value }) {
  const word = completeness(value);
  return (
    <span class={`complete ${word}`}>
      <span aria-hidden="true">{SIGNS[word]}</span> {word}
    </span>
  );
}

export const Failure = ({ error }) =>
  error === null ? null : (
    <p class="failure" role="alert">
      {error.status === 404 ? "Not found: " : "Cannot be shown now: "}
      <Text>{error.message}</Text>
    </p>
  );

export const Empty = ({ children }) => <p class="empty">{children}</p>;

/** A table that scrolls sideways by itself on a narrow screen; `columns` are [heading, class?]. */
export function Table({ caption, columns, children, label = caption }) {
  return (
    <div class="scrolls" tabIndex={0} role="region" aria-label={label}>
      <table>
        <caption>{caption}</caption>
        <thead>
          <tr>
            {columns.map(([heading, kind]) => (
              <th key={heading} scope="col" class={kind}>
                {heading}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

/** Lines of visits. */
export function VisitTable({ caption, visits }) {
  return (
    <Table
      caption={caption}
      columns={[["Visit"], ["Instrument"], ["Filter"], ["Target"], ["Begin (UTC)"], ["Exposed (s)", "number"], ["Group"]]}
    >
      {visits.map((each) => (
        <tr key={`${each.instrument}/${each.visit}`}>
          <th scope="row">
            <a href={visitLink(each)}>{each.visit}</a>
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
          <td>
            <time datetime={each.begin} title={dateTime(each.begin)}>
              {time(each.begin)}
            </time>
          </td>
          <td class="number">{each.exposure_time_s ?? "–"}</td>
          <td>
            <Complete value={each.complete} />
          </td>
        </tr>
      ))}
    </Table>
  );
}

/** Pairs of a name and a value; those without a value are left out. */
export function Facts({ facts }) {
  return (
    <dl class="facts">
      {facts
        .filter(([, value]) => value !== null && value !== undefined && value !== "")
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{typeof value === "object" ? value : <Text>{value}</Text>}</dd>
          </div>
        ))}
    </dl>
  );
}
