-- The run that answers the same request, for one that was told an id before it was found to be its duplicate.
ALTER TABLE agent_turns ADD COLUMN IF NOT EXISTS same_as text
