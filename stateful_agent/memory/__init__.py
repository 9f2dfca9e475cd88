"""What the agent remembers across threads: LangGraph's store, in the agent's database, for one user at a time."""
