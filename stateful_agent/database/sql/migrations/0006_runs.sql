-- The run that answers the same request, for one that was told an id before it was found to be its duplicate.
ALTER TABLE agent_turns ADD COLUMN IF NOT EXISTS same_as text;

-- To find those that are kept no more.
CREATE INDEX IF NOT EXISTS agent_turns_began_at ON agent_turns (began_at)
