-- works-with: 1
-- What people ask for without an instrument, when the survey is years old: an exposure or a visit by its id, by the
-- observatory's name, by its group. Making the indexes takes a second for each 500,000 exposures; writers wait so long.

CREATE INDEX exposure_by_obs_id ON exposure (obs_id);
CREATE INDEX exposure_by_group_name ON exposure ("group");

-- Few names, by one step through the key for each of them, however many exposures there are.
CREATE VIEW known_instrument AS
WITH RECURSIVE step (instrument) AS (
    (SELECT instrument FROM exposure ORDER BY instrument LIMIT 1)
    UNION ALL
    SELECT (
        SELECT exposure.instrument FROM exposure
        WHERE exposure.instrument > step.instrument ORDER BY exposure.instrument LIMIT 1
    )
    FROM step WHERE step.instrument IS NOT NULL
)
SELECT instrument FROM step WHERE instrument IS NOT NULL;
COMMENT ON VIEW known_instrument IS 'Instruments of which exposures are stored: for look-ups by an id alone, by a key that begins with the instrument.';
