-- The tree of a thread's checkpoints.

-- name: list_checkpoints
-- A page of a thread's checkpoints, newest first; one row without a checkpoint where the page is empty.
SELECT known.*, page.*
FROM (
    SELECT
        EXISTS (SELECT FROM checkpoints WHERE thread_id = %(thread_id)s AND checkpoint_ns = '') AS has_thread,
        %(before)s::text IS NULL OR EXISTS (
            SELECT FROM checkpoints
            WHERE thread_id = %(thread_id)s AND checkpoint_ns = '' AND checkpoint_id = %(before)s
        ) AS has_before
) AS known
LEFT JOIN LATERAL (
    SELECT checkpoint_id, parent_checkpoint_id, checkpoint ->> 'ts' AS timestamp, metadata, EXISTS (
        SELECT FROM checkpoint_writes AS task_write
        WHERE task_write.thread_id = %(thread_id)s AND task_write.checkpoint_ns = ''
            AND task_write.checkpoint_id = checkpoints.checkpoint_id AND task_write.channel = '__interrupt__'
    ) AS has_interrupts
    FROM checkpoints
    WHERE thread_id = %(thread_id)s AND checkpoint_ns = ''
        AND (%(before)s::text IS NULL OR checkpoint_id < %(before)s)
    ORDER BY checkpoint_id DESC LIMIT %(limit)s
) AS page ON true
ORDER BY checkpoint_id DESC

-- name: list_checkpoint_ids
-- The checkpoints of a graph or of a subgraph, newest first.
SELECT checkpoint_id FROM checkpoints
WHERE thread_id = %(thread_id)s AND checkpoint_ns = %(checkpoint_ns)s
    AND (%(before)s::text IS NULL OR checkpoint_id < %(before)s)
ORDER BY checkpoint_id DESC LIMIT %(limit)s

-- name: find_on_branch
-- The newest checkpoint of a subgraph with a memory of its own on the way to a checkpoint: one that it made while the
-- thread was at that checkpoint or at one before it.
WITH RECURSIVE ancestor AS (
    SELECT checkpoint_id, parent_checkpoint_id FROM checkpoints
    WHERE thread_id = %(thread_id)s AND checkpoint_ns = '' AND checkpoint_id = %(checkpoint_id)s
    UNION ALL
    SELECT parent.checkpoint_id, parent.parent_checkpoint_id
    FROM ancestor JOIN checkpoints AS parent
        ON parent.thread_id = %(thread_id)s AND parent.checkpoint_ns = ''
        AND parent.checkpoint_id = ancestor.parent_checkpoint_id
)
SELECT checkpoint_id FROM checkpoints AS made
WHERE thread_id = %(thread_id)s AND checkpoint_ns = %(namespace)s AND (
    SELECT max(checkpoint_id) FROM checkpoints AS thread
    WHERE thread.thread_id = %(thread_id)s AND thread.checkpoint_ns = ''
        AND thread.checkpoint_id < made.checkpoint_id
) IN (SELECT checkpoint_id FROM ancestor)
ORDER BY checkpoint_id DESC LIMIT 1

-- name: list_tips
-- All checkpoints of a thread with their parents, newest first, and the metadata of those without children.
SELECT checkpoint_id, parent_checkpoint_id,
    CASE WHEN is_tip THEN checkpoint ->> 'ts' END AS timestamp,
    CASE WHEN is_tip THEN metadata END AS metadata
FROM (
    SELECT *, checkpoint_id NOT IN (
        SELECT parent_checkpoint_id FROM checkpoints
        WHERE thread_id = %(thread_id)s AND checkpoint_ns = '' AND parent_checkpoint_id IS NOT NULL
    ) AS is_tip
    FROM checkpoints WHERE thread_id = %(thread_id)s AND checkpoint_ns = ''
) AS tree
ORDER BY checkpoint_id DESC

-- name: find_ancestor
-- The newest checkpoint on the way to another that has so many messages and lies between two turns.
WITH RECURSIVE ancestor AS (
    SELECT checkpoint_id, parent_checkpoint_id, metadata FROM checkpoints
    WHERE thread_id = %(thread_id)s AND checkpoint_ns = '' AND checkpoint_id = %(checkpoint_id)s
    UNION ALL
    SELECT parent.checkpoint_id, parent.parent_checkpoint_id, parent.metadata
    FROM ancestor JOIN checkpoints AS parent
        ON parent.thread_id = %(thread_id)s AND parent.checkpoint_ns = ''
        AND parent.checkpoint_id = ancestor.parent_checkpoint_id
)
SELECT checkpoint_id FROM ancestor
WHERE (metadata -> 'message_count')::int = %(message_count)s
    AND metadata -> 'next_nodes' IN ('[]', '["__start__"]')
ORDER BY checkpoint_id DESC LIMIT 1
