-- How many branches a thread has; NULL: a version before this one has written it, and nobody since.
ALTER TABLE agent_threads ADD COLUMN IF NOT EXISTS branch_count integer;

-- To find whether a checkpoint has children.
CREATE INDEX IF NOT EXISTS agent_children ON checkpoints (thread_id, parent_checkpoint_id) WHERE checkpoint_ns = ''
