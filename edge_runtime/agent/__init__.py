"""The composition root: settings in, a running store out. The only package that names every adapter."""

from edge_runtime.agent.agent import Agent
from edge_runtime.agent.opening import join_fleet

__all__ = ["Agent", "join_fleet"]
