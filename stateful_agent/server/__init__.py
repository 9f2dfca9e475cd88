"""The agent over HTTP: the app with its routes and errors, and the processes that serve it."""
