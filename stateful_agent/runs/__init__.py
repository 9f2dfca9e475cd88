"""Runs: turns that may outlive their request. In the background, resumed, retried, cancelled."""
