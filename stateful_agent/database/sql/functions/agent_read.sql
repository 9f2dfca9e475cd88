-- A checkpoint of a thread, or its newest one, with its values and pending writes as LangGraph's saver reads them
-- (`SELECT_SQL` of langgraph-checkpoint-postgres 3.2.0), and those of its messages that the process does not know:
-- the numbers `_known` are those it knows of the thread that was created at `_known_of`.
CREATE OR REPLACE FUNCTION agent_read(
    _thread_id text, _checkpoint_ns text, _checkpoint_id text, _known_of timestamptz, _known text
)
RETURNS TABLE (
    thread_id text, checkpoint jsonb, checkpoint_ns text, checkpoint_id text, parent_checkpoint_id text, metadata jsonb,
    channel_values bytea[], pending_writes bytea[], thread_created_at timestamptz, unknown bytea[]
)
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT found.*, (
        SELECT array_agg(ARRAY[number::text::bytea, message.type::bytea, message.blob])
        FROM generate_subscripts(found.channel_values, 1) AS n,
            unnest(CASE WHEN found.channel_values[n][2] = 'messages' THEN
                split_part(convert_from(found.channel_values[n][3], 'UTF8'), ' ', 1)::int4multirange
                - (CASE WHEN found.thread_created_at = _known_of THEN _known ELSE '{}' END)::int4multirange
            END) AS missing
            JOIN agent_messages AS message ON message.thread_id = found.thread_id
                AND number >= lower(missing) AND number < upper(missing)
    ) AS unknown
    FROM (
        SELECT
            c.thread_id, c.checkpoint, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id, c.metadata,
            (
                SELECT array_agg(ARRAY[value.channel::bytea, value.type::bytea, value.blob])
                FROM jsonb_each_text(c.checkpoint -> 'channel_versions') AS channel
                    JOIN checkpoint_blobs AS value ON value.thread_id = c.thread_id
                        AND value.checkpoint_ns = c.checkpoint_ns
                        AND value.channel = channel.key AND value.version = channel.value
            ) AS channel_values,
            (
                SELECT array_agg(ARRAY[
                    task_write.task_id::bytea, task_write.channel::bytea, task_write.type::bytea, task_write.blob,
                    convert_to(task_write.task_path, 'UTF8'), task_write.idx::text::bytea
                ])
                FROM checkpoint_writes AS task_write
                WHERE task_write.thread_id = c.thread_id AND task_write.checkpoint_ns = c.checkpoint_ns
                    AND task_write.checkpoint_id = c.checkpoint_id
            ) AS pending_writes,
            (SELECT created_at FROM agent_threads AS thread WHERE thread.thread_id = c.thread_id) AS thread_created_at
        FROM checkpoints AS c
        WHERE c.thread_id = _thread_id AND c.checkpoint_ns = _checkpoint_ns
            AND c.checkpoint_id = coalesce(_checkpoint_id, c.checkpoint_id)
        ORDER BY c.checkpoint_id DESC LIMIT 1
    ) AS found;
END
$function$;
