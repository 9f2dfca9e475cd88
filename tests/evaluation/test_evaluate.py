"""Evaluations of real agents, kept in a real store of MLflow."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from conftest import ROOT
from judge_api import Judge
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

from stateful_agent.cli import main
from stateful_agent.evaluation import DEFAULT, evaluate, judge_of, read_conversations
from stateful_agent.evaluation.asking import Refused, in_process, over_http

pytestmark = pytest.mark.usefixtures("traced")

CONVERSATIONS = read_conversations(DEFAULT)
CHECKS = {
    "every_turn_is_answered": 4,
    "memory_within_thread": 3,
    "no_memory_across_threads": 1,
    "forks_do_not_leak": 1,
    "refusals_lose_nothing": 1,
    "in_time": 4,
}
"""How many of the conversations have what each check is for."""


def failed(verdicts: list[Any]) -> dict[str, list[str]]:
    """Why checks failed, by their names."""
    found: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.has_failed:
            found.setdefault(verdict.score, []).append(verdict.why)
    return found


def answering(answer: Callable[[list[Any]], str]) -> Any:
    """A graph that answers by what was said."""

    def model(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(answer([message.text for message in state["messages"]]))]}

    return StateGraph(MessagesState).add_node("model", model).add_edge(START, "model")


def test_the_built_in_agent(agent: Any, rows: Callable[[], int]) -> None:
    run, verdicts = evaluate(CONVERSATIONS, in_process(agent), 60, None)
    assert failed(verdicts) == {}
    assert {name: sum(one.score == name for one in verdicts) for name in CHECKS} == CHECKS
    metrics = mlflow.get_run(run).data.metrics
    assert {name: metrics[f"{name}/mean"] for name in CHECKS} == dict.fromkeys(CHECKS, 1.0)
    assert metrics["first_token_seconds/mean"] <= metrics["seconds/mean"] < 60
    assert rows() == 0


def test_a_server(url: str) -> None:
    _, verdicts = evaluate(CONVERSATIONS, over_http(url), 60, None)
    assert failed(verdicts) == {}


def test_users_of_their_own(make_agent: Any) -> None:
    agent = make_agent(trusted_identity="context")
    _, verdicts = evaluate(CONVERSATIONS, in_process(agent), 60, None)
    assert failed(verdicts) == {}


def test_an_agent_that_forgets(make_agent: Any) -> None:
    agent = make_agent(answering(lambda said: f"You said: {said[-1]}"))
    _, verdicts = evaluate(CONVERSATIONS, in_process(agent), 60, None)
    assert failed(verdicts) == {
        "memory_within_thread": ["turn 2 does not say Oslo", "turn 3 does not say Rome", "turn 3 does not say Oslo"],
        "forks_do_not_leak": ["turn 4 does not say Oslo"],
    }


def test_an_agent_that_talks_of_other_threads(make_agent: Any) -> None:
    heard: list[str] = []

    def answer(said: list[str]) -> str:
        heard.append(said[-1])
        return " ".join(heard)

    _, verdicts = evaluate(CONVERSATIONS, in_process(make_agent(answering(answer))), 60, None)
    assert failed(verdicts)["no_memory_across_threads"] == ["turn 2 says Oslo"]
    assert failed(verdicts)["forks_do_not_leak"] == ["turn 4 says Rome"]


def test_an_agent_that_breaks(make_agent: Any) -> None:
    def answer(said: list[str]) -> str:
        raise RuntimeError("5ecret")

    _, verdicts = evaluate(CONVERSATIONS, in_process(make_agent(answering(answer))), 60, None)
    assert len(failed(verdicts)["every_turn_is_answered"]) == 4
    assert "5ecret" not in str(verdicts)


def test_an_agent_that_is_slow(make_agent: Any) -> None:
    _, verdicts = evaluate(CONVERSATIONS, in_process(make_agent()), 0, None)
    assert len(failed(verdicts)["in_time"]) == 4


def test_a_server_that_is_away() -> None:
    with pytest.raises(Refused, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        evaluate(CONVERSATIONS, over_http("http://127.0.0.1:9"), 60, None)


def test_a_judge_and_users_with_goals(
    make_agent: Any, rows: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Judge() as judge:
        monkeypatch.setenv("OPENAI_BASE_URL", judge.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-5ecret")
        _, verdicts = evaluate(CONVERSATIONS, in_process(make_agent()), 60, "openai:/gpt-5")
    said = {(one.score, one.value) for one in verdicts if not one.is_check and isinstance(one.value, str)}
    assert said == {("judge", "yes"), ("conversation_completeness", "yes"), ("user_frustration", "none")}
    assert any("a city by the sea" in prompt for prompt in judge.prompts)
    assert any("Noted: you are going to Lisbon." in prompt for prompt in judge.prompts)
    assert rows() == 0


def test_a_judge_that_cannot_be_asked(agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(Refused, match=r"The judge openai:/gpt-5 does not answer: OPENAI_API_KEY"):
        evaluate(CONVERSATIONS, in_process(agent), 60, "openai:/gpt-5")


@pytest.mark.parametrize(
    ("model", "judge"),
    [
        ("openai:gpt-5", "openai:/gpt-5"),
        ("databricks:e", "endpoints:/e"),
        ("anthropic:claude", "anthropic:/claude"),
        ("ollama:llama3", None),
        (None, None),
    ],
)
def test_who_judges(model: str | None, judge: str | None) -> None:
    assert judge_of(model) == judge


@pytest.fixture
def evaluated(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The built-in agent's file, under a name that no other test imports."""
    monkeypatch.setenv("DATABASE_URL", database)
    return str(shutil.copy(ROOT / "agent.py", tmp_path / f"evaluated_{tmp_path.name}.py"))


def test_the_command(evaluated: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["evaluate", evaluated])
    shown = capsys.readouterr().out
    assert "forks_do_not_leak         1 of 1\n" in shown
    assert "All answers are in MLflow, in the run " in shown


def test_the_commands_status(evaluated: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text("conversations: [{name: my own, turns: [{input: Hello, contains: Xanadu}]}]")
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", evaluated, "--conversations", str(tmp_path / "c.yaml")])
    assert ended.value.code == 1
    shown = capsys.readouterr().out
    assert "memory_within_thread      0 of 1\n    my own: turn 1 does not say Xanadu\n" in shown


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("conversations: []", "conversations: Tuple should have at least 1 item"),
        ("conversations: [{name: a, turns: [{say: x}]}]", "conversations.0.turns.0.input: Field required"),
        ("conversations: [{name: a, turns: [{input: x, from: b}]}]", "no turn before this one is named b"),
        (
            "conversations: [{name: a, turns: [{input: x}]}, {name: a, turns: [{input: y}]}]",
            "two conversations are named a",
        ),
        ("conversations: [", "is not YAML"),
    ],
)
def test_conversations_that_are_none(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(SystemExit, match=reason) as refused:
        main(["evaluate", "--conversations", str(tmp_path / "c.yaml")])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["none.py"], "There is no file none.py"),
        (["http://127.0.0.1:9"], "http://127.0.0.1:9 cannot be reached"),
        (["--conversations", "none.yaml"], "none.yaml cannot be read: No such file"),
    ],
)
def test_what_there_is_not(arguments: list[str], reason: str) -> None:
    with pytest.raises(SystemExit, match=reason):
        main(["evaluate", *arguments])
