"""A stand-in for the model that judges, and that plays users."""

import json
from http.server import BaseHTTPRequestHandler

from http_api import HttpApi, send_json


class Judge(HttpApi):
    """Finds all well, where it is asked for a form; else it says where it is headed."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[str] = []

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        asked = json.loads(body)
        prompt = " ".join(message["content"] for message in asked["messages"])
        self.prompts.append(prompt)
        if "response_format" in asked or "rationale" in prompt:
            words = json.dumps({"result": "none" if "frustrat" in prompt else "yes", "rationale": "All is well."})
        else:
            words = "I'm headed to Lisbon!"
        message = {"role": "assistant", "content": words}
        choices = [{"index": 0, "finish_reason": "stop", "message": message}]
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        about = {"id": "c", "object": "chat.completion", "created": 1, "model": asked["model"]}
        send_json(handler, 200, about | {"choices": choices, "usage": usage})
