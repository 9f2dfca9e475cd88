-- Take the lease on a thread for a run, unless another run holds it or came before, and read where the run goes on.
--
-- `version` is NULL where the lease was not taken, `is_known` false where there is no such thread or checkpoint of the
-- owner's, and none may begin: it may not either where the owner has the thread under `_former_id`.
--
-- A duplicate is another run of the same request: one with the same key, or where the request is known to be a retry,
-- one with the same body whose caller did not get its answer. The earlier one runs; of those that wait, only the first
-- will, and the others get it as their `duplicate`. One that died while it waited is none, unless somebody was told so.
--
-- The thread's row is locked from here on, but the rest is read as it was when the statement began: `version_seen`
-- differs from `version` if anything was written in between. Then the run takes again what it has taken, ahead of all
-- who wait for it; what was written may be its duplicate's.
CREATE OR REPLACE FUNCTION agent_take(
    _thread_id text, _former_id text, _checkpoint_ns text, _checkpoint_id text, _may_begin boolean,
    _all_users boolean, _owner text, _holder uuid, _lease interval, _ticket bigint, _response_id text, _digest bytea, _is_retry boolean,
    _known_of timestamptz, _known text
)
RETURNS TABLE (
    version bigint, created_at timestamptz, messages integer, duplicate text, is_same boolean, version_seen bigint,
    is_known boolean, head text,
    thread_id text, checkpoint jsonb, checkpoint_ns text, checkpoint_id text, parent_checkpoint_id text, metadata jsonb,
    channel_values bytea[], pending_writes bytea[], thread_created_at timestamptz, unknown bytea[]
)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH known AS (
        SELECT WHERE (
            _may_begin OR EXISTS (
                SELECT FROM checkpoints
                WHERE thread_id = _thread_id AND checkpoint_ns = ''
                    AND checkpoint_id = coalesce(_checkpoint_id, checkpoint_id)
            )
        ) AND (
            _all_users
            OR EXISTS (SELECT FROM agent_threads WHERE thread_id = _thread_id AND owner = _owner)
            OR NOT EXISTS (
                SELECT FROM agent_threads WHERE thread_id = _thread_id
                UNION ALL SELECT FROM checkpoints WHERE thread_id = _thread_id
                UNION ALL SELECT FROM agent_threads JOIN checkpoints USING (thread_id)
                WHERE thread_id = _former_id AND owner = _owner
            )
        )
    ), own AS (
        SELECT FROM agent_threads WHERE thread_id = _thread_id AND holder = _holder
    ), duplicate AS (
        SELECT response_id, digest = _digest AS is_same
        FROM agent_turns AS run LEFT JOIN agent_waiting AS waiting USING (holder)
        WHERE holder <> _holder AND (
            response_id = _response_id
                AND (waiting.holder IS NULL OR alive_until > clock_timestamp() OR status IS NOT NULL)
            OR _is_retry AND run.thread_id = _thread_id AND digest = _digest AND NOT is_delivered
                AND (waiting.holder IS NULL OR alive_until > clock_timestamp()) AND same_as IS NULL
        ) AND NOT EXISTS (
            SELECT FROM agent_turns AS earlier
            WHERE earlier.holder = _holder
                AND (earlier.began_at, earlier.response_id) < (run.began_at, run.response_id)
        ) AND (waiting.holder IS NULL OR NOT EXISTS (SELECT FROM own))
        ORDER BY waiting.holder IS NOT NULL, CASE WHEN waiting.holder IS NOT NULL THEN began_at END, began_at DESC
        LIMIT 1
    ), taken AS (
        INSERT INTO agent_threads AS thread (thread_id, owner, holder, held_until)
        SELECT _thread_id, _owner, _holder, clock_timestamp() + _lease
        FROM known
        WHERE NOT EXISTS (SELECT FROM duplicate) AND NOT EXISTS (
            SELECT FROM agent_turns WHERE holder = _holder AND status IN ('lost', 'not_begun')
        ) AND (
            EXISTS (SELECT FROM own) OR NOT EXISTS (
                SELECT FROM agent_waiting
                WHERE thread_id = _thread_id AND ticket < _ticket AND waits_until > clock_timestamp()
            )
        )
        ON CONFLICT (thread_id) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until
        WHERE (thread.held_until < clock_timestamp() OR thread.holder = excluded.holder)
            AND (_all_users OR thread.owner = _owner)
        RETURNING version, created_at, messages
    ), left_queue AS (
        DELETE FROM agent_waiting WHERE holder = _holder AND EXISTS (SELECT FROM taken)
    ), recorded AS (
        INSERT INTO agent_turns (response_id, thread_id, holder, digest, alive_until)
        SELECT _response_id, _thread_id, _holder, _digest, clock_timestamp() + _lease
        FROM taken WHERE _response_id IS NOT NULL
        -- A retry gets the row of an attempt whose process died while it waited for its thread: it never began.
        ON CONFLICT (response_id) DO UPDATE
        SET holder = excluded.holder, digest = excluded.digest, began_at = excluded.began_at,
            alive_until = excluded.alive_until
        WHERE agent_turns.status IS NULL AND agent_turns.alive_until < clock_timestamp()
            AND EXISTS (SELECT FROM agent_waiting WHERE holder = agent_turns.holder)
    )
    SELECT
        taken.*,
        duplicate.response_id, is_same,
        (SELECT version FROM agent_threads WHERE thread_id = _thread_id),
        EXISTS (SELECT FROM known),
        (SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = _thread_id AND checkpoint_ns = ''),
        base.*
    FROM (SELECT) AS run
        LEFT JOIN taken ON true
        LEFT JOIN duplicate ON true
        LEFT JOIN LATERAL agent_read(
            CASE WHEN taken.version IS NOT NULL THEN _thread_id END, _checkpoint_ns, _checkpoint_id, _known_of, _known
        ) AS base ON true;
END
$function$;
