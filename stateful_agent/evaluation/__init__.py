"""Evaluating an agent: conversations are played with it, scored, and kept as a run of MLflow."""

from stateful_agent.evaluation.asking import Refused, ask_of
from stateful_agent.evaluation.conversations import DEFAULT, read_conversations
from stateful_agent.evaluation.evaluate import evaluate, judge_of
from stateful_agent.evaluation.summary import summary

__all__ = ["DEFAULT", "Refused", "ask_of", "evaluate", "judge_of", "read_conversations", "summary"]
