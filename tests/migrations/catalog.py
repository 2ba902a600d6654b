"""All objects of a schema, as PostgreSQL describes them: one line for each.

Alembic compares only kinds that it knows; this compares the catalogue and `pg_get_…def`. It leaves out the order of
columns, because a revision can only append, and owners and privileges, which models do not have.
"""

CATALOG = """
WITH ours AS (
    SELECT c.* FROM pg_class AS c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relname NOT IN ('alembic_version', 'alembic_version_pkc')
)
SELECT format('relation %s kind %s %s with %s method %s space %s replica %s security %s %s comment %s', relname,
              relkind, relpersistence,
              (SELECT string_agg(option, ', ' ORDER BY option) FROM unnest(reloptions) AS option),
              (SELECT amname FROM pg_am WHERE oid = relam), reltablespace, relreplident, relrowsecurity,
              relforcerowsecurity, obj_description(oid, 'pg_class')) FROM ours
UNION ALL
SELECT format('column %s.%s %s %s default %s identity %s generated %s collation %s storage %s %s statistics %s: %s',
              ours.relname, a.attname, format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'NOT NULL' END,
              pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated, a.attcollation::regcollation,
              a.attstorage, a.attcompression, a.attstattarget, col_description(ours.oid, a.attnum))
FROM ours JOIN pg_attribute AS a ON a.attrelid = ours.oid AND a.attnum > 0 AND NOT a.attisdropped
    AND ours.relkind IN ('r', 'p', 'f', 'c', 'v', 'm')
LEFT JOIN pg_attrdef AS d ON d.adrelid = ours.oid AND d.adnum = a.attnum
UNION ALL
SELECT format('constraint %s on %s: %s comment %s', c.conname, ours.relname, pg_get_constraintdef(c.oid),
              obj_description(c.oid, 'pg_constraint'))
FROM ours JOIN pg_constraint AS c ON c.conrelid = ours.oid
UNION ALL
SELECT format('index %s: %s clustered %s replica %s ready %s valid %s', i.indexrelid::regclass,
              pg_get_indexdef(i.indexrelid), i.indisclustered, i.indisreplident, i.indisready, i.indisvalid)
FROM ours JOIN pg_index AS i ON i.indrelid = ours.oid
UNION ALL
SELECT format('partitions of %s: %s', relname, pg_get_partkeydef(oid)) FROM ours WHERE relkind = 'p'
UNION ALL
SELECT format('child %s of %s: %s', relname, i.inhparent::regclass, pg_get_expr(relpartbound, oid))
FROM ours JOIN pg_inherits AS i ON i.inhrelid = ours.oid
UNION ALL
SELECT format('view %s: %s', relname, pg_get_viewdef(oid)) FROM ours WHERE relkind IN ('v', 'm')
UNION ALL
SELECT format('rule on %s: %s', ours.relname, pg_get_ruledef(r.oid))
FROM ours JOIN pg_rewrite AS r ON r.ev_class = ours.oid AND r.rulename <> '_RETURN'
UNION ALL
SELECT format('trigger on %s: %s enabled %s', ours.relname, pg_get_triggerdef(t.oid), t.tgenabled)
FROM ours JOIN pg_trigger AS t ON t.tgrelid = ours.oid AND NOT t.tgisinternal
UNION ALL
SELECT format('policy on %s: %s', p.tablename, to_jsonb(p)) FROM pg_policies AS p WHERE p.schemaname = 'public'
UNION ALL
SELECT format('sequence %s: %s', s.sequencename, to_jsonb(s) - 'last_value' - 'sequenceowner')
FROM pg_sequences AS s WHERE s.schemaname = 'public'
UNION ALL
SELECT format('statistics %s', pg_get_statisticsobjdef(oid)) FROM pg_statistic_ext
WHERE stxnamespace = 'public'::regnamespace
UNION ALL
SELECT format('function %s: %s', p.oid::regprocedure, CASE WHEN p.prokind = 'a' THEN p.prosrc
                                                      ELSE pg_get_functiondef(p.oid) END)
FROM pg_proc AS p WHERE p.pronamespace = 'public'::regnamespace
UNION ALL
SELECT format('type %s %s: %s', t.typname, t.typtype, coalesce(
    (SELECT string_agg(enumlabel, ', ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid),
    (SELECT format('%s %s default %s: %s', format_type(t.typbasetype, t.typtypmod), t.typnotnull, t.typdefault,
                   string_agg(pg_get_constraintdef(c.oid), ', ' ORDER BY c.conname))
     FROM pg_constraint AS c WHERE c.contypid = t.oid)))
FROM pg_type AS t WHERE t.typnamespace = 'public'::regnamespace AND t.typtype IN ('e', 'd', 'r')
UNION ALL
SELECT format('extension %s', extname) FROM pg_extension
UNION ALL
SELECT format('schema %s', nspname) FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
"""
