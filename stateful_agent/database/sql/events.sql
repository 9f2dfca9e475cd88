-- The event log: what runs have emitted, and how they have ended.

-- name: store_events
-- Store what the runs of a process have emitted since the last time, and how they have ended; forget those that were
-- refused. Return which of the `runs` somebody has cancelled, and which are given up as lost: of these nothing more is
-- stored, as others have told their end.
WITH open AS (
    SELECT response_id FROM agent_turns WHERE response_id = ANY(%(runs)s) AND coalesce(status, '') NOT IN ('lost', 'not_begun')
    ORDER BY response_id FOR NO KEY UPDATE
), emitted AS (
    INSERT INTO agent_events (response_id, first, last, type, events)
    SELECT response_id, first, last, type, (%(data)s::bytea[])[data]
    FROM json_to_recordset(%(emitted)s::json) AS new (response_id text, first int, last int, type text, data int)
        JOIN open USING (response_id)
    ON CONFLICT (response_id, first) DO UPDATE
    SET last = excluded.last, type = excluded.type, events = excluded.events
), ended AS (
    UPDATE agent_turns
    SET status = ended.status, is_delivered = ended.is_delivered, alive_until = clock_timestamp(),
        same_as = coalesce((SELECT same_as FROM agent_turns WHERE response_id = ended.same_as), ended.same_as)
    FROM json_to_recordset(%(ended)s::json)
            AS ended (response_id text, status text, is_delivered boolean, same_as text)
        JOIN open USING (response_id)
    WHERE agent_turns.response_id = ended.response_id
), refused AS (
    DELETE FROM agent_turns WHERE holder = ANY(%(refused)s)
)
SELECT run.response_id, is_cancelled, open.response_id IS NULL AS is_lost
FROM agent_turns AS run LEFT JOIN open USING (response_id)
WHERE run.response_id = ANY(%(runs)s)

-- name: renew_runs
-- Renew the signs of life of the runs of a process.
UPDATE agent_turns SET alive_until = clock_timestamp() + %(lease)s
WHERE response_id = ANY(%(runs)s) AND status IS NULL
RETURNING response_id

-- name: end_lost_run
-- Give a run up whose process gives no sign of life, for good: it loses its lease, too, and can write no more. One that
-- is in the queue for its thread has not begun.
WITH lost AS (
    SELECT response_id, thread_id, holder FROM agent_turns
    WHERE response_id = %(response_id)s AND status IS NULL AND alive_until < clock_timestamp()
), lease AS (
    UPDATE agent_threads SET holder = NULL, held_until = '-infinity'
    FROM lost WHERE agent_threads.thread_id = lost.thread_id AND agent_threads.holder = lost.holder
    RETURNING agent_threads.thread_id
)
UPDATE agent_turns
SET status = CASE WHEN EXISTS (SELECT FROM agent_waiting WHERE holder = lost.holder) THEN 'not_begun' ELSE 'lost' END
FROM lost LEFT JOIN lease USING (thread_id)  -- the thread first, as all who lock both do
WHERE agent_turns.response_id = lost.response_id AND status IS NULL AND alive_until < clock_timestamp()
RETURNING agent_turns.response_id

-- name: delete_old_runs
-- Delete some of the runs that ended longer ago than `age` seconds, with their events.
DELETE FROM agent_turns WHERE response_id IN (
    SELECT response_id FROM agent_turns
    WHERE began_at < clock_timestamp() - %(age)s * interval '1 second'
        AND alive_until < clock_timestamp() - %(age)s * interval '1 second'
    LIMIT %(step)s FOR UPDATE SKIP LOCKED
)
RETURNING response_id

-- name: read_run
-- A run of a user's, or the one that answers the same request, with a row for each batch of its events after a sequence
-- number; of one that ended without an answer also the last checkpoint that it has stored.
SELECT run.response_id, run.thread_id, run.began_at, run.status, run.alive_until < clock_timestamp() AS is_silent,
    EXISTS (SELECT FROM agent_waiting WHERE holder = run.holder) AS waits, event.type, event.events,
    CASE WHEN run.status <> 'completed' THEN (
        SELECT max(checkpoint_id) FROM checkpoints
        WHERE metadata ? 'response_id' AND metadata ->> 'response_id' = run.response_id AND checkpoint_ns = ''
    ) END AS checkpoint_id
FROM agent_turns AS asked
    JOIN agent_turns AS run ON run.response_id = coalesce(asked.same_as, asked.response_id)
    LEFT JOIN agent_events AS event ON event.response_id = run.response_id AND event.last > %(after)s
WHERE asked.response_id = %(response_id)s AND (%(all_users)s OR EXISTS (
    SELECT FROM agent_threads WHERE thread_id = run.thread_id AND owner = %(owner)s
))
ORDER BY event.first

-- name: cancel_run
-- Ask the process of a user's run to end it.
UPDATE agent_turns AS run SET is_cancelled = true
WHERE run.response_id = coalesce(
    (SELECT same_as FROM agent_turns WHERE response_id = %(response_id)s), %(response_id)s
) AND (%(all_users)s OR EXISTS (
    SELECT FROM agent_threads WHERE thread_id = run.thread_id AND owner = %(owner)s
))
RETURNING response_id

-- name: delete_response
-- Delete a user's response: its run with its events, and its id beside the checkpoints of its turn, which stay.
WITH run AS (
    DELETE FROM agent_turns AS run
    WHERE response_id = %(response_id)s AND (%(all_users)s OR EXISTS (
        SELECT FROM agent_threads WHERE thread_id = run.thread_id AND owner = %(owner)s
    ))
    RETURNING response_id
), turn AS (
    UPDATE checkpoints SET metadata = metadata - 'response_id'
    WHERE metadata ? 'response_id' AND metadata ->> 'response_id' = %(response_id)s AND (%(all_users)s OR EXISTS (
        SELECT FROM agent_threads WHERE thread_id = checkpoints.thread_id AND owner = %(owner)s
    ))
    RETURNING checkpoint_id
)
SELECT FROM run UNION ALL SELECT FROM turn
