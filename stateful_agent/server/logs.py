"""What a worker logs: lines for people, or JSON for whatever gathers logs. Of conversations it has ids only."""

import json
import logging
import traceback
from datetime import UTC, datetime
from typing import Any

from stateful_agent.settings import Settings
from stateful_agent.traces import TURN_IDS


def set_up_logs(settings: Settings) -> None:
    """Log to standard error, as LOG_FORMAT and LOG_LEVEL say. An agent's file that has set up handlers keeps them."""
    handler = logging.StreamHandler()
    is_json = settings.log_format == "json"
    handler.setFormatter(JsonLines() if is_json else logging.Formatter("%(levelname)s  %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("stateful_agent").setLevel(settings.log_level.upper())


class JsonLines(logging.Formatter):
    """Each record as a JSON object on a line of its own, with the ids of the turn that it belongs to."""

    def format(self, record: logging.LogRecord) -> str:
        """The line. Of an exception it tells the type and the place: its message can quote what somebody said."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        line |= TURN_IDS.get({}) | getattr(record, "turn", {})
        if record.exc_info and (error := record.exc_info[1]):
            line["exception"] = type(error).__qualname__
            line["at"] = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        return json.dumps(line, ensure_ascii=False, default=str)
