-- The event log: what runs have emitted, and how they have ended.

-- name: store_events
-- Store what the runs of a process have emitted since the last time, and how they have ended, renew their signs of
-- life, forget those that were refused, and return those that somebody has cancelled.
WITH emitted AS (
    INSERT INTO agent_events (response_id, first, last, type, events)
    SELECT response_id, first, last, type, (%(data)s::bytea[])[data]
    FROM json_to_recordset(%(emitted)s::json) AS new (response_id text, first int, last int, type text, data int)
    WHERE EXISTS (SELECT FROM agent_turns WHERE response_id = new.response_id)
    ON CONFLICT (response_id, first) DO UPDATE
    SET last = excluded.last, type = excluded.type, events = excluded.events
), ended AS (
    UPDATE agent_turns
    SET status = ended.status, is_delivered = ended.is_delivered, alive_until = clock_timestamp()
    FROM json_to_recordset(%(ended)s::json) AS ended (response_id text, status text, is_delivered boolean)
    WHERE agent_turns.response_id = ended.response_id
), alive AS (
    UPDATE agent_turns SET alive_until = clock_timestamp() + %(lease)s
    WHERE response_id = ANY(%(running)s) AND alive_until < clock_timestamp() + %(lease)s::interval / 2
), refused AS (
    DELETE FROM agent_turns WHERE holder = ANY(%(refused)s)
)
SELECT response_id FROM agent_turns WHERE response_id = ANY(%(running)s) AND is_cancelled

-- name: delete_old_runs
-- Delete the runs that ended longer ago than `age` seconds, with their events.
DELETE FROM agent_turns WHERE alive_until < clock_timestamp() - %(age)s * interval '1 second'
RETURNING response_id

-- name: read_run
-- A run of a user's, with a row for each batch of its events after a sequence number.
SELECT run.thread_id, run.began_at, run.status, run.alive_until < clock_timestamp() AS is_lost,
    EXISTS (SELECT FROM agent_waiting WHERE holder = run.holder) AS waits, event.type, event.events
FROM agent_turns AS run
    LEFT JOIN agent_events AS event ON event.response_id = run.response_id AND event.last > %(after)s
WHERE run.response_id = %(response_id)s AND (%(all_users)s OR EXISTS (
    SELECT FROM agent_threads WHERE thread_id = run.thread_id AND owner = %(owner)s
))
ORDER BY event.first

-- name: cancel_run
-- Ask the process of a user's run to end it.
UPDATE agent_turns AS run SET is_cancelled = true
WHERE run.response_id = %(response_id)s AND (%(all_users)s OR EXISTS (
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
