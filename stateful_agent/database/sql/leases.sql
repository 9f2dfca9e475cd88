-- The lease on a thread, and the queue for it. Taking it is `functions/agent_take.sql`.

-- name: release_lease
-- Give the lease up.
UPDATE agent_threads SET held_until = '-infinity' WHERE thread_id = %(thread_id)s AND holder = %(holder)s
RETURNING thread_id

-- name: renew_leases
-- Renew the leases that a process holds.
UPDATE agent_threads SET held_until = clock_timestamp() + %(lease)s
WHERE thread_id = ANY(%(threads)s) AND holder = ANY(%(holders)s) AND held_until > '-infinity'
RETURNING thread_id

-- name: find_lost_write
-- Why a write found no lease: whether the thread is still the same, and whether the write was stored all the same.
SELECT created_at = %(created_at)s AS is_the_same, EXISTS (
    SELECT FROM checkpoints
    WHERE thread_id = %(thread_id)s AND checkpoint_ns = '' AND checkpoint_id = %(checkpoint_id)s
) AS is_stored
FROM agent_threads WHERE thread_id = %(thread_id)s

-- name: join_queue
-- Record a run that waits for its thread, and return its ticket; or renew the ticket, which is good for two seconds.
WITH recorded AS (
    INSERT INTO agent_turns (response_id, thread_id, holder, digest, alive_until)
    SELECT %(response_id)s, thread_id, %(holder)s, %(digest)s, clock_timestamp() + %(lease)s
    FROM (SELECT thread_id FROM agent_threads WHERE thread_id = %(thread_id)s FOR KEY SHARE) AS thread
    WHERE %(response_id)s::text IS NOT NULL
    -- A retry gets the row of an attempt whose process died while it waited for its thread: it never began.
    ON CONFLICT (response_id) DO UPDATE
    SET holder = excluded.holder, digest = excluded.digest, began_at = excluded.began_at,
        alive_until = excluded.alive_until
    WHERE agent_turns.status IS NULL AND agent_turns.alive_until < clock_timestamp()
        AND EXISTS (SELECT FROM agent_waiting WHERE holder = agent_turns.holder)
)
INSERT INTO agent_waiting (thread_id, holder, waits_until)
VALUES (%(thread_id)s, %(holder)s, clock_timestamp() + interval '2 seconds')
ON CONFLICT (holder) DO UPDATE SET waits_until = excluded.waits_until
RETURNING ticket

-- name: leave_queue
-- Remove a run from the queue, and those that died in it. A dead one stays for as long as its run is known, because
-- that it is in the queue shows that it never began.
DELETE FROM agent_waiting AS waiting
WHERE holder = %(holder)s OR waits_until < clock_timestamp() - interval '1 minute'
    AND NOT EXISTS (SELECT FROM agent_turns WHERE holder = waiting.holder)
RETURNING ticket
