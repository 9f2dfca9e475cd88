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
    INSERT INTO agent_threads (thread_id, owner, messages, branch_count, metadata_type, metadata)
    SELECT %(copy)s, owner, coalesce(messages, 0), branch_count, metadata_type, metadata
    FROM (SELECT) AS one LEFT JOIN agent_threads ON thread_id = %(thread_id)s
    WHERE EXISTS (SELECT FROM checkpoints WHERE thread_id = %(thread_id)s)
)
SELECT checkpoint_id FROM checkpoint WHERE checkpoint_ns = '' ORDER BY checkpoint_id DESC LIMIT 1
