"""The OpenAI Responses API: requests in, items and events out. Pure: no I/O, no clock."""
