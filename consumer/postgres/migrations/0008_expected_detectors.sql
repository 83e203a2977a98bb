-- works-with: 1
-- Events of whole exposures. A release that does not know these columns leaves them as they are; of a row that it
-- inserts, announced is false, and its detectors say that an event was processed.

ALTER TABLE exposure
    ADD COLUMN announced boolean NOT NULL DEFAULT false,
    ADD COLUMN expected_detectors int4multirange,
    ADD COLUMN expected_version bigint;
COMMENT ON COLUMN exposure.announced IS 'Whether an event announced the exposure: it may name no raw.';
COMMENT ON COLUMN exposure.expected_detectors IS 'The detectors whose raws the exposure will have; null when unknown.';
COMMENT ON COLUMN exposure.expected_version IS 'The record_version with which expected_detectors were announced.';

CREATE VIEW missing_raw AS
SELECT exposure.instrument, exposure.id AS exposure, detector, exposure.day_obs, exposure.first_seen_at
FROM exposure
CROSS JOIN LATERAL unnest(exposure.expected_detectors - exposure.detectors) AS missing
CROSS JOIN LATERAL generate_series(lower(missing), upper(missing) - 1) AS detector;
COMMENT ON VIEW missing_raw IS 'Raws that are expected and have not arrived, one row each.';
