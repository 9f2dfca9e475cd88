"""Which tools the agent has."""

import datetime
import re
import zoneinfo
from importlib.util import find_spec
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool, ToolException, tool
from pydantic import SecretStr

from stateful_agent.errors import Misconfigured


@tool
def current_time(time_zone: str) -> str:
    """The current date and time in an IANA time zone such as Europe/Paris, America/New_York or UTC."""
    try:
        zone = zoneinfo.ZoneInfo(time_zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        raise ToolException(f"{time_zone!r} is not an IANA time zone; one is 'Europe/Paris'.") from error
    return f"{datetime.datetime.now(zone):%A, %d %B %Y, %H:%M} in {time_zone}"


SAMPLE = (
    "Weather in San Francisco (SF), California: San Francisco: 61°F (16°C), fog until noon.",
    "Weather in Los Angeles (LA), California: Los Angeles: 77°F (25°C), sunny.",
    "Weather in New York (NYC): New York: 50°F (10°C), light rain.",
    "Weather in Paris, France: Paris: 54°F (12°C), cloudy.",
    "Weather in Tokyo, Japan: Tokyo: 64°F (18°C), clear.",
    "LangGraph saves a checkpoint of the graph's state after every step, and can resume from any of them.",
    "MLflow's ResponsesAgent gives an agent the interface of the OpenAI Responses API.",
    "Lakebase is a managed Postgres in Databricks.",
)
SAMPLE_NOTICE = "Not the web: this searches a small built-in sample (set TAVILY_API_KEY to search the web)."


@tool
def search(query: str) -> str:
    """Search for facts, such as the weather somewhere."""
    wanted = words(query)
    scores = {text: len(wanted & words(text)) for text in SAMPLE}
    best = max(scores.values())
    # One word in common says little, unless it is all that was asked for.
    found = [text for text, score in scores.items() if score == best and score >= min(2, len(wanted)) > 0]
    return "\n".join([SAMPLE_NOTICE, *(found or [f"Nothing in it about {query!r}."])])


def search_tool(tavily_api_key: SecretStr | None) -> BaseTool:
    """A search: of the web with a Tavily key, else of a small sample."""
    return web_search(tavily_api_key) if tavily_api_key else search


def web_search(api_key: SecretStr) -> BaseTool:
    """The same tool, on the web.

    Raises:
        Misconfigured: the package for it is not installed.
    """
    if find_spec("langchain_tavily") is None:
        raise Misconfigured("TAVILY_API_KEY needs a package: pip install 'stateful-agent[tavily]'")
    from langchain_tavily import TavilySearch  # takes two seconds, which only those who use it should pay

    tavily = TavilySearch(tavily_api_key=api_key.get_secret_value(), max_results=3)

    def run(query: str) -> str:
        return _results(tavily.invoke({"query": query}))

    async def arun(query: str) -> str:
        return _results(await tavily.ainvoke({"query": query}))

    return StructuredTool.from_function(run, arun, name=search.name, description=search.description)


def _results(found: dict[str, Any] | str) -> str:
    if isinstance(found, str):
        return found
    if "error" in found:  # Tavily's tool returns what it should raise
        raise ToolException(f"The search failed: {found['error']}")
    return "\n\n".join(f"{page['title']} ({page['url']})\n{page['content']}" for page in found["results"])


def words(text: str) -> set[str]:
    """The words of a text that tell what it is about."""
    return set(re.findall(r"\w+", text.lower())) - {"in", "the", "of", "a", "and", "to", "is", "what", "from"}
