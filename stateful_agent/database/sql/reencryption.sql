-- What encrypts anew what is stored. A row is named by where it lies: if it was changed since it was read, it lies
-- elsewhere, and stays as it is.

-- name: read_blobs
SELECT thread_id, ctid::text, NULL AS number, type, blob FROM checkpoint_blobs
WHERE thread_id = %(thread_id)s AND type <> 'empty'

-- name: update_blobs
UPDATE checkpoint_blobs SET type = %(type)s, blob = %(blob)s
WHERE thread_id = %(thread_id)s AND ctid = %(ctid)s::tid

-- name: read_writes
SELECT thread_id, ctid::text, NULL AS number, type, blob FROM checkpoint_writes WHERE thread_id = %(thread_id)s

-- name: update_writes
UPDATE checkpoint_writes SET type = %(type)s, blob = %(blob)s
WHERE thread_id = %(thread_id)s AND ctid = %(ctid)s::tid

-- name: read_messages
SELECT thread_id, ctid::text, number, type, blob FROM agent_messages WHERE thread_id = %(thread_id)s

-- name: update_messages
UPDATE agent_messages SET type = %(type)s, blob = %(blob)s
WHERE thread_id = %(thread_id)s AND ctid = %(ctid)s::tid

-- name: read_metadata
-- Nobody changes it before the transaction ends.
SELECT NULL AS number, metadata_type AS type, metadata AS blob FROM agent_threads
WHERE thread_id = %(thread_id)s AND metadata_type IS NOT NULL FOR UPDATE

-- name: read_checkpoints
SELECT thread_id, ctid::text, checkpoint_ns, checkpoint, metadata FROM checkpoints WHERE thread_id = %(thread_id)s

-- name: update_checkpoint
UPDATE checkpoints SET checkpoint = %(checkpoint)s, metadata = %(metadata)s
WHERE thread_id = %(thread_id)s AND ctid = %(ctid)s::tid

-- name: add_blob
-- Store a value of a channel apart from its checkpoint, which held it inline.
INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
VALUES (%(thread_id)s, %(ns)s, %(channel)s, %(version)s, %(type)s, %(blob)s)
ON CONFLICT DO NOTHING

-- name: list_thread_ids
SELECT thread_id FROM agent_threads WHERE thread_id > %(last_id)s ORDER BY thread_id LIMIT 100

-- name: read_events
SELECT event.ctid::text, NULL AS number, type, events AS blob FROM agent_events AS event JOIN agent_turns USING (response_id)
WHERE thread_id = %(thread_id)s

-- name: update_events
UPDATE agent_events SET type = %(type)s, events = %(blob)s WHERE ctid = %(ctid)s::tid

-- name: list_items
SELECT prefix, key, value FROM store WHERE (prefix, key) > (%(prefix)s, %(key)s) ORDER BY prefix, key LIMIT 100

-- name: update_item
UPDATE store SET value = %(new)s WHERE prefix = %(prefix)s AND key = %(key)s AND value = %(value)s
