"""The composition root: settings in, a running store out. The only package that names every adapter."""

from edge_runtime.agent.agent import Agent

__all__ = ["Agent"]
