// What the service sends by itself (server-sent events), as signals that views read.
import { computed, signal } from "@preact/signals";
import { BASE, getAll } from "./api.js";

const SILENT_MS = 15_000; // three heartbeats
const RETRY_MS = 3_000;
const FRESH_MS = 8_000;

/** Wall clock of this browser, milliseconds, once a second. */
export const now = signal(Date.now());
/** Last event `state`: {at, night, status}. */
export const state = signal(null);
/** Last event `groups`, with `received`: when it came, milliseconds of this browser. */
export const groups = signal(null);
/** What the service said about a database that it cannot ask: {since, detail}, or null. */
export const stale = signal(null);
/** Grows whenever a visit of any night was written: views that fetched ask again. */
export const changes = signal(0);
/** Footprints of the night that is shown: {day, byKey: Map, error}. */
export const footprints = signal({ day: null, byKey: new Map(), error: null });
/** Keys of visits that came while the page looked on, with the moment. */
export const fresh = signal(new Map());

const heardAt = signal(null);
const openedAt = Date.now();
let source = null;
let shownDay = null;
let request = null;

/** "connecting", "live", "stale" (the database is away) or "lost" (the service is away). */
export const connection = computed(() => {
  if (heardAt.value === null) return now.value - openedAt > SILENT_MS ? "lost" : "connecting";
  if (source?.readyState !== EventSource.OPEN && now.value - heardAt.value > RETRY_MS) return "lost";
  if (now.value - heardAt.value > SILENT_MS) return "lost";
  return stale.value === null ? "live" : "stale";
});
/** When something was last heard, milliseconds, or null. */
export const lastHeard = computed(() => heardAt.value);

export const keyOf = (each) => `${each.instrument}/${each.visit}`;

/** Load the footprints of a night, and keep them up to date from then on. */
export async function showNight(day) {
  if (day === shownDay && footprints.value.error === null) return;
  if (day !== shownDay) footprints.value = { day, byKey: new Map(), error: null };
  shownDay = day;
  await reload();
}

async function reload() {
  if (shownDay === null) return;
  request?.abort();
  request = new AbortController();
  const day = shownDay;
  try {
    const found = await getAll(`nights/${day}/footprints`, "footprints", request.signal);
    if (day !== shownDay) return;
    // What an event brought while the answer was on its way is newer.
    const byKey = new Map(found.map((each) => [keyOf(each), each]));
    for (const [key, each] of footprints.value.byKey) {
      if (!byKey.has(key) ? fresh.value.has(key) : byKey.get(key).revision < each.revision) byKey.set(key, each);
    }
    footprints.value = { day, byKey, error: null };
  } catch (error) {
    if (error.name !== "AbortError") footprints.value = { ...footprints.value, error };
  }
}

function addVisits(visits) {
  changes.value += 1;
  const ours = visits.filter((each) => each.day_obs === shownDay);
  if (ours.length === 0) return;
  const byKey = new Map(footprints.value.byKey);
  const marked = new Map([...fresh.value].filter(([, at]) => Date.now() - at < FRESH_MS));
  for (const each of ours) {
    const key = keyOf(each);
    if (!byKey.has(key)) marked.set(key, Date.now());
    byKey.set(key, each);
  }
  fresh.value = marked;
  footprints.value = { ...footprints.value, byKey };
}

const HANDLERS = {
  state(data) {
    stale.value = null;
    state.value = data;
    if (footprints.value.error !== null) reload();
  },
  visits: (data) => addVisits(data.visits),
  groups(data) {
    groups.value = { ...data, received: Date.now() };
  },
  reload() {
    changes.value += 1;
    reload();
  },
  stale(data) {
    stale.value = data;
  },
  heartbeat() {},
};

function connect() {
  source?.close();
  source = new EventSource(`${BASE}events`);
  for (const [name, handle] of Object.entries(HANDLERS)) {
    source.addEventListener(name, (event) => {
      heardAt.value = Date.now();
      handle(JSON.parse(event.data));
    });
  }
}

/** Begin to listen, and go on for as long as the page is open. */
export function start() {
  connect();
  let triedAt = Date.now();
  setInterval(() => {
    now.value = Date.now();
    // The browser comes back by itself after a broken connection, and gives up after an answer that is an error.
    const silent = heardAt.value !== null && Date.now() - heardAt.value > SILENT_MS;
    if ((source.readyState === EventSource.CLOSED || silent) && Date.now() - triedAt > RETRY_MS) {
      triedAt = Date.now();
      connect();
    }
  }, 1000);
}
