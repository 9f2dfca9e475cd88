"""Time travel: the history of a thread, its branches, edits of its past, and threads as a whole."""
