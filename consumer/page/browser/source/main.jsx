// The frame of the page: navigation, which view is shown, and how live it is. Views are addressed by the part behind #.
import { computed, signal } from "@preact/signals";
import { render } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { useAnswer } from "./api.js";
import { dateTime, night, time } from "./format.js";
import { changes, connection, groups, lastHeard, now, stale, start, state } from "./live.js";
import { Exposure } from "./exposure.jsx";
import { Search } from "./search.jsx";
import { Sky } from "./skyview.jsx";
import { Tonight } from "./tonight.jsx";
import { Trouble } from "./trouble.jsx";
import { Visit } from "./visit.jsx";
import { Waiting } from "./waiting.jsx";

const LATEST = "latest";
const VIEWS = {
  tonight: { title: "Tonight", view: Tonight, byNight: true },
  sky: { title: "Sky", view: Sky, byNight: true },
  waiting: { title: "Waiting", view: Waiting },
  trouble: { title: "Trouble", view: Trouble },
  visit: { title: "Visit", view: Visit },
  exposure: { title: "Exposure", view: Exposure },
  search: { title: "Search", view: Search },
};

const route = signal(parse());

function parse() {
  const [name, ...parts] = location.hash.replace(/^#\/?/, "").split("/");
  try {
    return name in VIEWS ? { name, parts: parts.map(decodeURIComponent) } : { name: "tonight", parts: [] };
  } catch {
    return { name: "tonight", parts: [] }; // a broken escape in the address
  }
}

/** The night that is shown: a day_obs, or null while nothing is stored. */
const shownNight = computed(() => {
  const { name, parts } = route.value;
  const asked = VIEWS[name].byNight ? (parts[0] ?? LATEST) : LATEST;
  return /^\d{8}$/.test(asked) ? Number(asked) : (state.value?.night.day_obs ?? null);
});
const followsLatest = computed(() => !/^\d{8}$/.test(route.value.parts[0] ?? LATEST));

function Navigation() {
  const { name, parts } = route.value;
  const kept = VIEWS[name].byNight && parts[0] ? `/${parts[0]}` : "";
  const badges = { waiting: groups.value?.total, trouble: state.value?.status.open_dead_letters };
  return (
    <nav aria-label="Views">
      {["tonight", "sky", "waiting", "trouble"].map((each) => (
        <a
          key={each}
          href={`#/${each}${VIEWS[each].byNight ? kept : ""}`}
          aria-current={each === name ? "page" : undefined}
        >
          {VIEWS[each].title}
          {badges[each] > 0 && <span class={`badge ${each}`}>{badges[each]}</span>}
        </a>
      ))}
    </nav>
  );
}

const WORDS = { connecting: "Connecting", live: "Live", stale: "Stale", lost: "No connection" };

function Connection() {
  return (
    <p class={`connection ${connection.value}`}>
      <span class="dot" aria-hidden="true" />
      <span role="status">{WORDS[connection.value]}</span>
      <time>{time(now.value)} UTC</time>
    </p>
  );
}

function Stale() {
  if (connection.value === "stale") {
    return (
      <p class="banner" role="alert">
        Stale since {dateTime(stale.value.since)} UTC: the database cannot be asked. What is shown is as it was then.{" "}
        {stale.value.detail}
      </p>
    );
  }
  if (connection.value !== "lost") return null;
  const heard = lastHeard.value;
  return (
    <p class="banner" role="alert">
      The service does not answer. {heard !== null && `What is shown is as it was at ${dateTime(heard)} UTC. `}
      The page tries again by itself.
    </p>
  );
}

function SearchBox() {
  const search = (event) => {
    event.preventDefault();
    const text = new FormData(event.currentTarget).get("q").trim();
    if (text) location.hash = `#/search/${encodeURIComponent(text)}`;
  };
  return (
    <form role="search" onSubmit={search}>
      <input
        type="search"
        name="q"
        maxlength={200}
        placeholder="id, obs_id, target, or 53.1 -27.8"
        aria-label="Search by id, obs_id, group, target, or position in degrees"
      />
    </form>
  );
}

function NightSwitcher() {
  const { name } = route.value;
  const nights = useAnswer("nights?limit=100", state.value?.night.day_obs ?? 0).data?.nights ?? [];
  const day = shownNight.value;
  const at = nights.findIndex((each) => each.day_obs === day);
  const go = (value) => {
    location.hash = `#/${name}${value === LATEST ? "" : `/${value}`}`;
  };
  const step = (by, label, sign) => (
    <button type="button" aria-label={label} disabled={!nights[at + by] || at < 0} onClick={() => go(nights[at + by].day_obs)}>
      {sign}
    </button>
  );
  return (
    <div class="night">
      {step(1, "Night before", "‹")}
      <label>
        <span class="label">Night (day_obs)</span>
        <select value={followsLatest.value ? LATEST : String(day)} onChange={(event) => go(event.currentTarget.value)}>
          <option value={LATEST}>latest{state.value?.night.day_obs ? `: ${night(state.value.night.day_obs)}` : ""}</option>
          {at < 0 && !followsLatest.value && <option value={String(day)}>{night(day)}</option>}
          {nights.map((each) => (
            <option key={each.day_obs} value={String(each.day_obs)}>
              {night(each.day_obs)} · {each.visits} visits
            </option>
          ))}
        </select>
      </label>
      {step(-1, "Night after", "›")}
    </div>
  );
}

function Page() {
  const about = useAnswer("about").data;
  const main = useRef(null);
  const first = useRef(true);
  const { name, parts } = route.value;
  const { title, view: View, byNight } = VIEWS[name];
  useEffect(() => {
    document.title = `${title} · Visits`;
    if (!first.current) main.current.focus(); // a screen reader goes on at the new view
    first.current = false;
    window.scrollTo(0, 0);
  }, [name]);
  const skip = (event) => {
    event.preventDefault();
    main.current.focus();
  };
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>
        Skip to the view
      </a>
      <header>
        <a class="brand" href="#/tonight">
          Visits
        </a>
        <Navigation />
        <SearchBox />
        <Connection />
      </header>
      <Stale />
      <main ref={main} tabIndex={-1} id="main" aria-label={title}>
        {byNight && <NightSwitcher />}
        <View
          parts={parts}
          day={shownNight.value}
          night={followsLatest.value ? state.value?.night : undefined}
          site={about?.site ?? null}
          version={changes.value}
        />
      </main>
      <footer>
        visit-consumer {about?.version ?? ""}
        {about?.user && (
          <>
            {" "}
            · signed in as <bdi>{about.user}</bdi>
          </>
        )}{" "}
        · <a href="api/v1/openapi.json">API</a> · angles: degrees, ICRS; times: UTC
      </footer>
    </>
  );
}

window.addEventListener("hashchange", () => {
  route.value = parse();
});
start();
render(<Page />, document.getElementById("page"));
