-- What is remembered across threads, in the table of LangGraph's store.

-- name: delete_memories
-- Delete the item of a namespace that has a key, or all items of it and, as `below` is the namespace and a period, of
-- those below it.
DELETE FROM store
WHERE (prefix = %(prefix)s AND key = coalesce(%(key)s::text, key))
    OR (%(key)s::text IS NULL AND starts_with(prefix, %(below)s))
