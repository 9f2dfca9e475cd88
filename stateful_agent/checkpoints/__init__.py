"""LangGraph's checkpoints on our tables: the saver, the lease on a thread, the message log, the serializer."""
