-- Store a write batch, renew or release the lease, and return the thread's id; nothing if the lease is no longer the
-- holder's.
--
-- A released lease keeps its holder's name, so that the statement can be repeated after a broken connection. Rows come
-- as JSON, their bytes apart in `_data`. LangGraph stores a task's results once, but replaces what it stores about the
-- task itself: those rows have an idx < 0. A new checkpoint is a branch more, unless it is the first child of its parent.
CREATE OR REPLACE FUNCTION agent_store(
    _thread_id text, _holder uuid, _lease interval, _releases boolean, _last_message integer, _blobs json,
    _messages json, _writes json, _checkpoints json, _data bytea[]
)
RETURNS TABLE (thread_id text)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH added AS (
        SELECT parent, EXISTS (
            SELECT FROM checkpoints
            WHERE thread_id = _thread_id AND checkpoint_ns = '' AND parent_checkpoint_id = parent
        ) AS has_children
        FROM json_to_recordset(_checkpoints) AS new (ns text, checkpoint_id text, parent text)
        WHERE ns = '' AND NOT EXISTS (
            SELECT FROM checkpoints
            WHERE thread_id = _thread_id AND checkpoint_ns = '' AND checkpoint_id = new.checkpoint_id
        )
    ), thread AS (
        UPDATE agent_threads
        SET
            version = version + 1,
            updated_at = now(),
            messages = greatest(messages, _last_message),
            branch_count = coalesce(branch_count, (
                SELECT count(*) - count(DISTINCT parent_checkpoint_id) FROM checkpoints
                WHERE thread_id = _thread_id AND checkpoint_ns = ''
            )) + (SELECT count(*) - count(DISTINCT parent) FILTER (WHERE NOT has_children) FROM added),
            held_until = CASE WHEN _releases THEN '-infinity' ELSE clock_timestamp() + _lease END
        WHERE thread_id = _thread_id AND holder = _holder
        RETURNING thread_id
    ), blob AS (
        INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
        SELECT thread_id, ns, channel, version, type, _data[data]
        FROM thread, json_to_recordset(_blobs)
            AS new (ns text, channel text, version text, type text, data int)
        ON CONFLICT DO NOTHING
    ), message AS (
        INSERT INTO agent_messages (thread_id, number, type, blob)
        SELECT thread_id, number, type, _data[data]
        FROM thread, json_to_recordset(_messages) AS new (number int, type text, data int)
        ON CONFLICT DO NOTHING
    ), task_write AS (
        INSERT INTO checkpoint_writes
            (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
        SELECT thread_id, ns, checkpoint_id, task_id, task_path, idx, channel, type, _data[data]
        FROM thread, json_to_recordset(_writes)
            AS new (ns text, checkpoint_id text, task_id text, task_path text, idx int,
                    channel text, type text, data int)
        ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO UPDATE
        SET channel = excluded.channel, type = excluded.type, blob = excluded.blob
        WHERE excluded.idx < 0
    ), checkpoint AS (
        INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
        SELECT thread_id, ns, checkpoint_id, parent, new.checkpoint, metadata
        FROM thread, json_to_recordset(_checkpoints)
            AS new (ns text, checkpoint_id text, parent text, checkpoint jsonb, metadata jsonb)
        ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id) DO UPDATE
        SET checkpoint = excluded.checkpoint, metadata = excluded.metadata
    )
    SELECT thread_id FROM thread;
END
$function$;
