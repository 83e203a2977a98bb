// Requests of the JSON API below api/v1; addresses are relative, so that the page works below any path.
import { useEffect, useState } from "preact/hooks";

export const BASE = "api/v1/";
const MOST_PAGES = 50;

/** An answer that is no success; `status` is that of HTTP, or 0 when there was no answer at all. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Build a path from parts that may hold any character. */
export const path = (...parts) => parts.map(encodeURIComponent).join("/");

/** Fetch one answer as JSON. */
export async function get(address, signal) {
  let response;
  try {
    response = await fetch(BASE + address, { signal, headers: { Accept: "application/json" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "the service does not answer");
  }
  const body = await response.json().catch(() => null);
  if (response.ok) return body;
  const detail = body?.detail;
  throw new ApiError(response.status, typeof detail === "string" ? detail : `the answer was ${response.status}`);
}

/** Fetch every page of a list. */
export async function getAll(address, field, signal) {
  const found = [];
  let after = null;
  for (let page = 0; page < MOST_PAGES; page += 1) {
    const separator = address.includes("?") ? "&" : "?";
    const answer = await get(after === null ? address : `${address}${separator}after=${encodeURIComponent(after)}`, signal);
    found.push(...answer[field]);
    after = answer.next;
    if (after === null) break;
  }
  return found;
}

/**
 * Fetch an answer while a component is shown, and again when `version` changes.
 * What was fetched stays shown until the next answer of the same address; null as address fetches nothing.
 */
export function useAnswer(address, version = 0) {
  const [result, setResult] = useState({ address: null, data: null, error: null });
  useEffect(() => {
    if (address === null) return undefined;
    const controller = new AbortController();
    get(address, controller.signal).then(
      (data) => setResult({ address, data, error: null }),
      (error) => {
        if (error.name === "AbortError") return;
        setResult((old) => ({ address, data: old.address === address ? old.data : null, error }));
      },
    );
    return () => controller.abort();
  }, [address, version]);
  return result.address === address ? result : { address, data: null, error: null };
}
