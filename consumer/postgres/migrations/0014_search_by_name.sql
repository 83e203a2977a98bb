-- works-with: 1
-- The page for people searches by name: an obs_id, and the beginning of a target's name in any case. `explain --obs-id`
-- finds exposures by the first as well. One entry more for each exposure and visit; no update changes them.

CREATE INDEX exposure_by_obs_id ON exposure (obs_id);
CREATE INDEX visit_by_target ON visit (lower(target_name) text_pattern_ops) WHERE target_name IS NOT NULL;
