// Numbers and times as people read them; each says its unit, and times are UTC.

const NONE = "–";

export const count = (value) => (value === null || value === undefined ? NONE : value.toLocaleString("en"));

/** A duration in seconds, such as 0.4 s, 12 s, 3 min 5 s, 2 h 10 min. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  const size = Math.abs(seconds);
  if (size < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(size);
  const sign = seconds < 0 ? "−" : "";
  if (whole < 60) return `${sign}${whole} s`;
  if (whole < 3600) return `${sign}${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 172_800) return `${sign}${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${sign}${Math.floor(whole / 86_400)} days`;
}

const at = (iso) => (typeof iso === "number" ? new Date(iso) : new Date(iso ?? NaN));

/** Time of day, UTC. */
export function time(iso) {
  const when = at(iso);
  return Number.isNaN(when.getTime()) ? NONE : when.toISOString().slice(11, 19);
}

/** Date and time of day, UTC. */
export function dateTime(iso) {
  const when = at(iso);
  return Number.isNaN(when.getTime()) ? NONE : when.toISOString().slice(0, 19).replace("T", " ");
}

/** A day_obs as 2026-03-01. */
export function night(day) {
  const text = String(day);
  return text.length === 8 ? `${text.slice(0, 4)}-${text.slice(4, 6)}-${text.slice(6)}` : text;
}

/** Right ascension and declination, degrees. */
export const position = (ra, dec) => `${ra.toFixed(4)}° ${dec < 0 ? "−" : "+"}${Math.abs(dec).toFixed(4)}°`;

export const percent = (part, whole) => (whole === 0 ? NONE : `${((100 * part) / whole).toFixed(part === whole ? 0 : 1)} %`);

/** The words of a code such as dead_letter. */
export const words = (code) => String(code ?? NONE).replaceAll("_", " ");

/** Whether a visit has all exposures of its group. */
export const completeness = (complete) =>
  complete === null || complete === undefined ? "unknown" : complete ? "complete" : "incomplete";

/** The band of a physical filter such as r_57, HSC-I, SDSSg_65mm or "z DECam SDSS": a letter, or other. */
export function band(filter) {
  const found = /^(?:HSC-|SDSS)?([ugrizy])(?![a-z])/i.exec(filter ?? "");
  return found === null ? "other" : found[1].toLowerCase();
}
