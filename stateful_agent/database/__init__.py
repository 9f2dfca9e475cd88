"""The Postgres that state lives in: connections, set-up and migrations, and the statements as SQL files."""
