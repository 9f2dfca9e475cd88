-- Copies of threads.

-- name: copy_thread
-- Copy all rows of a thread, and return the copy's head; nothing where there is no such thread. Checkpoints keep their
-- ids. A response does not: its id leads to the thread that it was given on.
WITH checkpoint AS (
    INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
    SELECT %(copy)s, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata - 'response_id'
    FROM checkpoints WHERE thread_id = %(thread_id)s
    RETURNING checkpoint_ns, checkpoint_id
), blob AS (
    INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT %(copy)s, checkpoint_ns, channel, version, type, blob
    FROM checkpoint_blobs WHERE thread_id = %(thread_id)s
), task_write AS (
    INSERT INTO checkpoint_writes
        (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
    SELECT %(copy)s, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob
    FROM checkpoint_writes WHERE thread_id = %(thread_id)s
), message AS (
    INSERT INTO agent_messages (thread_id, number, type, blob)
    SELECT %(copy)s, number, type, blob FROM agent_messages WHERE thread_id = %(thread_id)s
), thread AS (
    INSERT INTO agent_threads (thread_id, owner, messages, metadata_type, metadata)
    SELECT %(copy)s, owner, coalesce(messages, 0), metadata_type, metadata
    FROM (SELECT) AS one LEFT JOIN agent_threads ON thread_id = %(thread_id)s
    WHERE EXISTS (SELECT FROM checkpoints WHERE thread_id = %(thread_id)s)
)
SELECT checkpoint_id FROM checkpoint WHERE checkpoint_ns = '' ORDER BY checkpoint_id DESC LIMIT 1

-- name: read_blobs
SELECT ctid::text, NULL AS number, type, blob FROM checkpoint_blobs WHERE thread_id = %(copy)s AND type <> 'empty'

-- name: update_blobs
UPDATE checkpoint_blobs SET type = %(type)s, blob = %(blob)s WHERE ctid = %(ctid)s::tid

-- name: read_writes
SELECT ctid::text, NULL AS number, type, blob FROM checkpoint_writes WHERE thread_id = %(copy)s

-- name: update_writes
UPDATE checkpoint_writes SET type = %(type)s, blob = %(blob)s WHERE ctid = %(ctid)s::tid

-- name: read_messages
SELECT ctid::text, number, type, blob FROM agent_messages WHERE thread_id = %(copy)s

-- name: update_messages
UPDATE agent_messages SET type = %(type)s, blob = %(blob)s WHERE ctid = %(ctid)s::tid

-- name: read_metadata
SELECT metadata_type, metadata FROM agent_threads WHERE thread_id = %(copy)s AND metadata_type IS NOT NULL

-- name: read_checkpoints
SELECT ctid::text, checkpoint_ns, checkpoint, metadata FROM checkpoints WHERE thread_id = %(copy)s

-- name: update_checkpoint
UPDATE checkpoints SET checkpoint = %(checkpoint)s, metadata = %(metadata)s WHERE ctid = %(ctid)s::tid

-- name: add_blob
-- Store a value of a channel apart from its checkpoint, which held it inline.
INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
VALUES (%(copy)s, %(ns)s, %(channel)s, %(version)s, %(type)s, %(blob)s)
ON CONFLICT DO NOTHING
