"""The two statements that every turn says: it takes its thread, and stores what it adds.

They are kept in the database as functions. Postgres plans a statement anew each time it is said, which takes longer
than these take to run; of a function, each connection keeps the plan. It would still plan the first five calls anew,
to see whether it gains from knowing the values: here it does not. Prepared statements would do the same, but not
behind a proxy that pools transactions.
"""

import hashlib
import re
from typing import LiteralString

from stateful_agent.checkpoints.message_log import READ


class Function:
    """A statement as a function of the database."""

    def __init__(self, name: str, statement: str, *, takes: str, returns: str) -> None:
        """`statement` has parameters as psycopg knows them, `%(name)s`.

        Which it `takes`, and the columns that it `returns`, are listed as `"name type, name type"`.
        """
        parameters = [parameter.split(" ") for parameter in takes.split(", ")]
        signature = ", ".join(f"_{parameter} {kind}" for parameter, kind in parameters)
        body = re.sub(r"%\((\w+)\)s", r"_\1", statement)
        definition = f"""({signature}) RETURNS TABLE ({returns})
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY {body};
END
$function$"""
        # Processes of two versions may share a database for a while: each finds its own.
        self.name = f"{name}_{hashlib.sha256(definition.encode()).hexdigest()[:8]}"
        self.definition: LiteralString = f"CREATE OR REPLACE FUNCTION {self.name}{definition}"
        values = ", ".join(f"%({parameter})b::{kind}" for parameter, kind in parameters)
        self.call: LiteralString = f"SELECT * FROM {self.name}({values})"
        """The statement that calls it, with the parameters of `statement`."""


NOTED_ANEW: LiteralString = """
        ON CONFLICT (response_id) DO UPDATE
        SET holder = excluded.holder, digest = excluded.digest, began_at = excluded.began_at,
            alive_until = excluded.alive_until
        WHERE agent_turns.alive_until < clock_timestamp()
            AND EXISTS (SELECT FROM agent_waiting WHERE holder = agent_turns.holder)"""
"""Lets a retry have the row of an attempt whose process died while it waited for its thread: it never began."""


# A twin is another turn for the same call: named by the same key, or of the same words and not over yet; for a call
# that is known to be a retry, also one that is over and whose caller did not hear it. The earlier one runs; of those
# that wait, only the first will, and the others have it as their twin. One that died while it waited is none.
# The row is locked from here on, but what the rest of the statement reads is as it was when the statement began:
# `version` tells whether anything was written in between. Then the turn takes again what it has taken, ahead of all
# who wait: they wait for it. What was written may be its twin's.
TAKE = Function(
    "agent_take",
    """
    WITH known AS (
        SELECT WHERE (
            %(begins)s OR EXISTS (
                SELECT FROM checkpoints
                WHERE thread_id = %(thread_id)s AND checkpoint_ns = ''
                    AND checkpoint_id = coalesce(%(checkpoint_id)s, checkpoint_id)
            )
        ) AND (
            %(caller)s IS NULL
            OR EXISTS (SELECT FROM agent_threads WHERE thread_id = %(thread_id)s AND owner = %(caller)s)
            OR NOT EXISTS (
                SELECT FROM agent_threads WHERE thread_id = %(thread_id)s
                UNION ALL SELECT FROM checkpoints WHERE thread_id = %(thread_id)s
            )
        )
    ), own AS (
        SELECT FROM agent_threads WHERE thread_id = %(thread_id)s AND holder = %(holder)s
    ), twin AS (
        SELECT response_id, digest = %(digest)s AS is_same
        FROM agent_turns AS turn LEFT JOIN agent_waiting AS waiting USING (holder)
        WHERE holder <> %(holder)s AND (waiting.holder IS NULL OR alive_until > clock_timestamp()) AND (
            response_id = %(response_id)s
            OR turn.thread_id = %(thread_id)s AND digest = %(digest)s AND (
                %(is_retry)s AND NOT is_delivered
                OR waits_until > clock_timestamp()
                OR EXISTS (
                    SELECT FROM agent_threads
                    WHERE thread_id = %(thread_id)s AND holder = turn.holder AND held_until > clock_timestamp()
                )
            )
        ) AND NOT EXISTS (
            SELECT FROM agent_turns AS earlier
            WHERE earlier.holder = %(holder)s
                AND (earlier.began_at, earlier.response_id) < (turn.began_at, turn.response_id)
        ) AND (waiting.holder IS NULL OR NOT EXISTS (SELECT FROM own))
        ORDER BY waiting.holder IS NOT NULL, CASE WHEN waiting.holder IS NOT NULL THEN began_at END, began_at DESC
        LIMIT 1
    ), taken AS (
        INSERT INTO agent_threads AS thread (thread_id, owner, holder, held_until)
        SELECT %(thread_id)s, %(caller)s, %(holder)s, clock_timestamp() + %(lease)s
        FROM known
        WHERE NOT EXISTS (SELECT FROM twin) AND (
            EXISTS (SELECT FROM own) OR NOT EXISTS (
                SELECT FROM agent_waiting
                WHERE thread_id = %(thread_id)s AND ticket < %(ticket)s AND waits_until > clock_timestamp()
            )
        )
        ON CONFLICT (thread_id) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until
        WHERE (thread.held_until < clock_timestamp() OR thread.holder = excluded.holder)
            AND (%(caller)s IS NULL OR thread.owner = %(caller)s)
        RETURNING version, created_at, messages
    ), dequeued AS (
        DELETE FROM agent_waiting WHERE holder = %(holder)s AND EXISTS (SELECT FROM taken)
    ), noted AS (
        INSERT INTO agent_turns (response_id, thread_id, holder, digest, alive_until)
        SELECT %(response_id)s, %(thread_id)s, %(holder)s, %(digest)s, clock_timestamp() + %(lease)s
        FROM taken WHERE %(response_id)s IS NOT NULL
        """
    + NOTED_ANEW
    + """
    )
    SELECT
        taken.*,
        twin.response_id AS twin, is_same,
        (SELECT version FROM agent_threads WHERE thread_id = %(thread_id)s) AS version_seen,
        EXISTS (SELECT FROM known) AS is_known,
        (SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = %(thread_id)s AND checkpoint_ns = '') AS head,
        base.*
    FROM (SELECT) AS turn LEFT JOIN taken ON true LEFT JOIN twin ON true LEFT JOIN LATERAL (
    """
    + READ.replace("WHERE thread_id", "WHERE taken.version IS NOT NULL AND thread_id", 1)
    + ") AS base ON true",
    takes=(
        "thread_id text, checkpoint_ns text, checkpoint_id text, begins boolean, caller text, holder uuid, "
        "lease interval, ticket bigint, response_id text, digest bytea, is_retry boolean, known_of timestamptz, "
        "known text"
    ),
    returns=(
        "version bigint, created_at timestamptz, messages integer, twin text, is_same boolean, "
        "version_seen bigint, is_known boolean, head text, thread_id text, checkpoint jsonb, checkpoint_ns text, "
        "checkpoint_id text, parent_checkpoint_id text, metadata jsonb, channel_values bytea[], "
        "pending_writes bytea[], began timestamptz, unknown bytea[]"
    ),
)

# Stores nothing if the thread is no longer the holder's. A released lease keeps its holder's name, so that it can be
# said again after a broken connection.
# LangGraph stores a task's results once, but replaces what it says about the task itself: those have an idx < 0.
STORE = Function(
    "agent_store",
    """
    WITH thread AS (
        UPDATE agent_threads
        SET
            version = version + 1,
            updated_at = now(),
            messages = greatest(messages, %(last_message)s),
            held_until = CASE WHEN %(releases)s THEN '-infinity' ELSE clock_timestamp() + %(lease)s END
        WHERE thread_id = %(thread_id)s AND holder = %(holder)s
        RETURNING thread_id
    ), blob AS (
        INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
        SELECT thread_id, ns, channel, version, type, (%(data)s)[data]
        FROM thread, json_to_recordset(%(blobs)s)
            AS piece (ns text, channel text, version text, type text, data int)
        ON CONFLICT DO NOTHING
    ), message AS (
        INSERT INTO agent_messages (thread_id, number, type, blob)
        SELECT thread_id, number, type, (%(data)s)[data]
        FROM thread, json_to_recordset(%(messages)s) AS piece (number int, type text, data int)
        ON CONFLICT DO NOTHING
    ), task_write AS (
        INSERT INTO checkpoint_writes
            (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
        SELECT thread_id, ns, checkpoint_id, task_id, task_path, idx, channel, type, (%(data)s)[data]
        FROM thread, json_to_recordset(%(writes)s)
            AS piece (ns text, checkpoint_id text, task_id text, task_path text, idx int,
                      channel text, type text, data int)
        ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO UPDATE
        SET channel = excluded.channel, type = excluded.type, blob = excluded.blob
        WHERE excluded.idx < 0
    ), checkpoint AS (
        INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
        SELECT thread_id, ns, checkpoint_id, parent, piece.checkpoint, metadata
        FROM thread, json_to_recordset(%(checkpoints)s)
            AS piece (ns text, checkpoint_id text, parent text, checkpoint jsonb, metadata jsonb)
        ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id) DO UPDATE
        SET checkpoint = excluded.checkpoint, metadata = excluded.metadata
    )
    SELECT thread_id FROM thread
    """,
    takes=(
        "thread_id text, holder uuid, lease interval, releases boolean, last_message integer, blobs json, "
        "messages json, writes json, checkpoints json, data bytea[]"
    ),
    returns="thread_id text",
)

FUNCTIONS = [TAKE, STORE]
