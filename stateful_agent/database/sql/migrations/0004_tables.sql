-- Beside LangGraph's tables, what they do not hold: which threads there are (at first, those that LangGraph's tables
-- have), whose they are, which run may write to them and which wait for that, each message once, and for a while what
-- runs have emitted. It is the first migration that is left, and does what 0000 to 0003 did as well: it makes the
-- tables, or brings those of these versions up to date.

CREATE TABLE IF NOT EXISTS agent_migrations (v integer PRIMARY KEY);

-- A row for each thread. The lease on it is `holder` and `held_until`; each write adds one to `version`; `messages` is
-- the greatest number that a message of it has.
CREATE TABLE IF NOT EXISTS agent_threads (
    thread_id text PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    owner text,
    version bigint NOT NULL DEFAULT 0,
    holder uuid,
    held_until timestamptz NOT NULL DEFAULT '-infinity',
    messages integer NOT NULL DEFAULT 0
);
ALTER TABLE agent_threads
    DROP COLUMN IF EXISTS generation,
    ADD COLUMN IF NOT EXISTS owner text,
    ADD COLUMN IF NOT EXISTS version bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS holder uuid,
    ADD COLUMN IF NOT EXISTS held_until timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN IF NOT EXISTS messages integer NOT NULL DEFAULT 0;
CREATE INDEX IF NOT EXISTS agent_threads_updated_at ON agent_threads (updated_at);
CREATE INDEX IF NOT EXISTS agent_threads_owner ON agent_threads (owner, updated_at) WHERE owner IS NOT NULL;
CREATE INDEX IF NOT EXISTS agent_responses ON checkpoints ((metadata ->> 'response_id'))
    WHERE metadata ? 'response_id';
INSERT INTO agent_threads (thread_id, created_at, updated_at)
SELECT thread_id, min((checkpoint->>'ts')::timestamptz), max((checkpoint->>'ts')::timestamptz)
FROM checkpoints WHERE checkpoint_ns = '' GROUP BY thread_id
ON CONFLICT DO NOTHING;

-- The queue for the lease on a thread.
CREATE TABLE IF NOT EXISTS agent_waiting (
    holder uuid PRIMARY KEY,
    thread_id text NOT NULL,
    ticket bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    waits_until timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS agent_waiting_thread_id ON agent_waiting (thread_id, ticket);

-- The message log.
CREATE TABLE IF NOT EXISTS agent_messages (
    thread_id text,
    number integer,
    type text NOT NULL,
    blob bytea NOT NULL,
    PRIMARY KEY (thread_id, number)
);
-- LangGraph's `checkpoint_blobs` with the lists of messages put together as LangGraph stores them.
CREATE OR REPLACE VIEW agent_blobs AS
SELECT thread_id, checkpoint_ns, channel, version, replace(type, 'messages', 'msgpack') AS type,
    CASE type WHEN 'messages' THEN (
        SELECT '\xdd'::bytea || int4send(count(*)::int) || string_agg(message.blob, '' ORDER BY nth, number)
        FROM regexp_matches(convert_from(list.blob, 'UTF8'), '(\d+),(\d+)', 'g')
            WITH ORDINALITY AS run (ends, nth)
        JOIN agent_messages AS message ON message.thread_id = list.thread_id
            AND number BETWEEN ends[1]::int AND ends[2]::int
    ) ELSE blob END AS blob
FROM checkpoint_blobs AS list;

-- The event log: a row for each run, and its events in batches.
CREATE TABLE IF NOT EXISTS agent_turns (
    response_id text PRIMARY KEY,
    thread_id text NOT NULL REFERENCES agent_threads ON DELETE CASCADE,
    holder uuid NOT NULL,
    digest bytea,
    began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    alive_until timestamptz NOT NULL,
    status text,
    is_cancelled boolean NOT NULL DEFAULT false,
    is_delivered boolean NOT NULL DEFAULT false
);
CREATE INDEX IF NOT EXISTS agent_turns_thread_id ON agent_turns (thread_id, digest);
CREATE INDEX IF NOT EXISTS agent_turns_holder ON agent_turns (holder);
CREATE TABLE IF NOT EXISTS agent_events (
    response_id text NOT NULL REFERENCES agent_turns ON DELETE CASCADE,
    first integer NOT NULL,
    last integer NOT NULL,
    type text NOT NULL,
    events bytea NOT NULL,
    PRIMARY KEY (response_id, first)
)
