-- works-with: 1
-- The page for people finds visits by the beginning of a target's name, in any case; of one target the newest night
-- first. An update never changes it.

CREATE INDEX visit_by_target ON visit (lower(target_name) text_pattern_ops, day_obs DESC) WHERE target_name IS NOT NULL;
