-- What is asked of a database before the agent works on it. It may have no tables yet.

-- name: lock_setup
-- Wait until nobody else changes the tables. The lock ends with the transaction.
SELECT pg_advisory_xact_lock(%(lock)s)

-- name: find_schema
SELECT 1 FROM pg_namespace WHERE nspname = %(schema)s

-- name: find_table
-- Not to_regclass: after waiting for the lock, that may still answer as before.
SELECT 1 FROM pg_tables WHERE schemaname = %(schema)s AND tablename = %(table)s

-- name: find_function
SELECT 1 FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
WHERE nspname = %(schema)s AND proname = %(function)s

-- name: current_schema
SELECT current_schema()

-- name: may_write
-- Whether this role may do all that the agent does with the rows of tables.
SELECT bool_and(has_table_privilege(name, privilege))
FROM unnest(%(tables)s::text[]) AS name, unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS privilege

-- name: may_execute
-- Whether this role may call functions.
SELECT bool_and(has_function_privilege(pg_proc.oid, 'EXECUTE'))
FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
WHERE nspname = %(schema)s AND proname = ANY (%(functions)s)

-- name: list_invalid_indexes
-- The indexes of tables that were left half-made.
SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE NOT indisvalid AND indrelid = ANY (%(tables)s::text[]::regclass[])

-- name: read_threads
-- Whether the tables are there and may be read.
SELECT EXISTS (SELECT FROM agent_threads) AS has_threads
