-- What callers note of a thread: a JSON object, encrypted like its values.
ALTER TABLE agent_threads
    ADD COLUMN IF NOT EXISTS metadata_type text,
    ADD COLUMN IF NOT EXISTS metadata bytea
