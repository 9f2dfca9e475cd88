"""What `agent.py` stands on: it travels with the logged model."""
