-- Threads as a whole.

-- name: find_owned
-- A user's thread, under the first of its `thread_ids` that there is.
SELECT thread_id FROM agent_threads WHERE thread_id = ANY(%(thread_ids)s::text[]) AND owner = %(owner)s
ORDER BY array_position(%(thread_ids)s::text[], thread_id) LIMIT 1

-- name: list_owned
-- Some of the threads of a user.
SELECT thread_id FROM agent_threads WHERE owner = %(owner)s LIMIT 100

-- name: find_response
-- The thread of a user's response, and the first and the last checkpoint of its turn.
SELECT thread_id, min(checkpoint_id) AS first_checkpoint_id, max(checkpoint_id) AS checkpoint_id FROM checkpoints
WHERE metadata ? 'response_id' AND metadata ->> 'response_id' = %(response_id)s AND checkpoint_ns = ''
    AND (%(all_users)s OR EXISTS (
        SELECT FROM agent_threads WHERE thread_id = checkpoints.thread_id AND owner = %(owner)s
    ))
GROUP BY thread_id

-- name: list_threads
-- A page of a user's threads, the one last touched first, each with its head.
SELECT thread_id, created_at, updated_at, branch_count, metadata_type, agent_threads.metadata AS thread_metadata,
    head.checkpoint_id, head.metadata,
    (
        SELECT array_agg(metadata ORDER BY checkpoint_id) FROM (
            SELECT checkpoint_id, metadata FROM checkpoints AS first
            WHERE first.thread_id = agent_threads.thread_id AND checkpoint_ns = '' ORDER BY checkpoint_id LIMIT 2
        ) AS first
    ) AS first_metadata,
    (
        SELECT response_id FROM agent_turns AS run
        WHERE run.thread_id = agent_threads.thread_id AND status IS NULL AND alive_until > clock_timestamp()
        ORDER BY began_at LIMIT 1
    ) AS running_response_id
FROM agent_threads
CROSS JOIN LATERAL (
    SELECT checkpoint_id, metadata FROM checkpoints
    WHERE checkpoints.thread_id = agent_threads.thread_id AND checkpoint_ns = ''
    ORDER BY checkpoint_id DESC LIMIT 1
) AS head
WHERE (%(all_users)s OR owner = %(owner)s)
    AND (%(before)s::timestamptz IS NULL OR updated_at < %(before)s)
ORDER BY updated_at DESC LIMIT %(limit)s

-- name: read_thread
-- A user's thread, with its head.
SELECT thread_id, created_at, updated_at, branch_count, metadata_type, agent_threads.metadata AS thread_metadata,
    head.checkpoint_id, head.metadata,
    (
        SELECT array_agg(metadata ORDER BY checkpoint_id) FROM (
            SELECT checkpoint_id, metadata FROM checkpoints AS first
            WHERE first.thread_id = agent_threads.thread_id AND checkpoint_ns = '' ORDER BY checkpoint_id LIMIT 2
        ) AS first
    ) AS first_metadata,
    (
        SELECT response_id FROM agent_turns AS run
        WHERE run.thread_id = agent_threads.thread_id AND status IS NULL AND alive_until > clock_timestamp()
        ORDER BY began_at LIMIT 1
    ) AS running_response_id
FROM agent_threads JOIN checkpoints AS head USING (thread_id)
WHERE thread_id = %(thread_id)s AND checkpoint_ns = '' AND (%(all_users)s OR owner = %(owner)s)
ORDER BY checkpoint_id DESC LIMIT 1

-- name: update_metadata
-- Store what a caller notes of a thread, in the place of what was noted before.
UPDATE agent_threads SET metadata_type = %(type)s, metadata = %(metadata)s WHERE thread_id = %(thread_id)s
RETURNING thread_id

-- name: delete_thread
-- Delete a thread, and with it its runs and their events. What a run is storing at this moment ends before its row can
-- be had, and what it stores later finds the thread gone.
DELETE FROM agent_threads WHERE thread_id = %(thread_id)s

-- name: delete_checkpoints
DELETE FROM checkpoints WHERE thread_id = %(thread_id)s

-- name: delete_blobs
DELETE FROM checkpoint_blobs WHERE thread_id = %(thread_id)s

-- name: delete_writes
DELETE FROM checkpoint_writes WHERE thread_id = %(thread_id)s

-- name: delete_messages
DELETE FROM agent_messages WHERE thread_id = %(thread_id)s

-- name: list_prunable
-- Some of a user's threads, those after `after_id` in the order of their ids, and which of them have checkpoints older than
-- `age` seconds beside the newest.
SELECT thread_id, (
    SELECT (checkpoint ->> 'ts')::timestamptz < now() - %(age)s * interval '1 second'
    FROM checkpoints WHERE checkpoints.thread_id = page.thread_id AND checkpoint_ns = ''
    ORDER BY checkpoint_id LIMIT 1
) AND EXISTS (
    SELECT FROM checkpoints WHERE checkpoints.thread_id = page.thread_id AND checkpoint_ns = ''
    ORDER BY checkpoint_id OFFSET 1
) AS is_prunable
FROM (
    SELECT thread_id FROM agent_threads
    WHERE (%(all_users)s OR owner = %(owner)s) AND thread_id > %(after_id)s
    ORDER BY thread_id LIMIT 500
) AS page
ORDER BY thread_id

-- name: begin_prune
-- Lock a thread on which no turn runs.
UPDATE agent_threads SET version = version + 1
WHERE thread_id = %(thread_id)s AND held_until < clock_timestamp()
RETURNING thread_id

-- name: prune_checkpoints
-- Delete some of the checkpoints older than `age` seconds, the oldest first. In each namespace the newest stays, however
-- old it is.
DELETE FROM checkpoints WHERE thread_id = %(thread_id)s AND (checkpoint_ns, checkpoint_id) IN (
    SELECT checkpoint_ns, checkpoint_id FROM checkpoints AS old
    WHERE thread_id = %(thread_id)s
        AND (checkpoint ->> 'ts')::timestamptz < now() - %(age)s * interval '1 second'
        AND checkpoint_id < (
            SELECT max(checkpoint_id) FROM checkpoints AS newest
            WHERE newest.thread_id = %(thread_id)s AND newest.checkpoint_ns = old.checkpoint_ns
        )
    ORDER BY checkpoint_id LIMIT %(step)s
)

-- name: count_branches
-- Count the branches of a thread anew: its checkpoints without children.
UPDATE agent_threads SET branch_count = (
    SELECT count(*) - count(DISTINCT parent_checkpoint_id) FROM checkpoints
    WHERE thread_id = %(thread_id)s AND checkpoint_ns = ''
)
WHERE thread_id = %(thread_id)s

-- name: prune_writes
-- Delete the writes whose checkpoint is gone.
DELETE FROM checkpoint_writes AS task_write
WHERE thread_id = %(thread_id)s AND NOT EXISTS (
    SELECT FROM checkpoints
    WHERE thread_id = %(thread_id)s AND checkpoint_ns = task_write.checkpoint_ns
        AND checkpoint_id = task_write.checkpoint_id
)

-- name: prune_blobs
-- Delete the values that no checkpoint has.
DELETE FROM checkpoint_blobs
WHERE thread_id = %(thread_id)s AND (checkpoint_ns, channel, version) NOT IN (
    SELECT checkpoint_ns, key, value
    FROM checkpoints, jsonb_each_text(checkpoint -> 'channel_versions')
    WHERE thread_id = %(thread_id)s
)

-- name: prune_messages
-- Delete the messages that no list has.
DELETE FROM agent_messages AS message
WHERE thread_id = %(thread_id)s AND NOT number <@ (
    SELECT coalesce(range_agg(range), '{}')
    FROM checkpoint_blobs, unnest(split_part(convert_from(blob, 'UTF8'), ' ', 1)::int4multirange) AS range
    WHERE thread_id = %(thread_id)s AND type = 'messages'
)

-- name: cut_orphans
-- Make roots of the checkpoints whose parent is gone.
UPDATE checkpoints AS orphan SET parent_checkpoint_id = NULL
WHERE thread_id = %(thread_id)s AND parent_checkpoint_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM checkpoints AS parent
    WHERE parent.thread_id = %(thread_id)s AND parent.checkpoint_ns = orphan.checkpoint_ns
        AND parent.checkpoint_id = orphan.parent_checkpoint_id
)
