-- works-with: 1
-- The last audit of each night: dashboards and alerts read it. A release that does not know these tables leaves them.

CREATE TABLE audit_run (
    instrument text NOT NULL,
    day_obs integer NOT NULL,
    audited_at timestamptz NOT NULL DEFAULT now(),
    software_version text NOT NULL,
    -- Names of the rules that were asked.
    rules text[] NOT NULL,
    findings integer NOT NULL,
    -- What could not be checked, and why.
    untold text[] NOT NULL,
    PRIMARY KEY (instrument, day_obs)
);

CREATE TABLE audit_finding (
    instrument text NOT NULL,
    day_obs integer NOT NULL,
    number integer NOT NULL,
    rule text NOT NULL,
    severity text NOT NULL,
    -- What the subjects are, such as visit or seq_num, and which ones, in ranges.
    subject text NOT NULL,
    subjects text NOT NULL,
    found integer NOT NULL,
    detail text NOT NULL,
    PRIMARY KEY (instrument, day_obs, number)
);
