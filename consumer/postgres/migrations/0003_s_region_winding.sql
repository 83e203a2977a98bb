-- works-with: 1
-- DALI 1.1 wants the vertices counter-clockwise as seen from the origin; sphgeom has them so as seen from outside. The
-- announcements always had DALI's order, the view obscore had the other.

CREATE OR REPLACE FUNCTION s_region(region bytea) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    BEGIN ATOMIC
        SELECT 'POLYGON ICRS ' || string_agg(
            (CASE WHEN y < 0 THEN degrees(atan2(y, x)) + 360 ELSE degrees(atan2(y, x)) END)::text
            || ' ' || degrees(atan2(z, sqrt(x * x + y * y)))::text,
            ' ' ORDER BY vertex DESC
        )
        FROM sphgeom_vertices(region);
    END;
