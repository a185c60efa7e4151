"""AgentAudit: what the agent itself writes into the audit: the policy that it runs by.

A device must not stop for its audit: where an entry of the agent's own cannot be written, the log says so.
"""

import logging
from collections.abc import Mapping
from typing import Any

from edge_runtime.agent.policy import policy_of
from edge_runtime.contract.errors import StorageError
from edge_runtime.settings import AgentSettings
from edge_runtime.sinks.audit import Act, Audit

log = logging.getLogger(__name__)


class AgentAudit:
    """The audit of one agent.

    Args:
        settings: That it starts with.
    """

    def __init__(self, settings: AgentSettings) -> None:
        self.trail = Audit(settings.state_dir)
        self._policy = policy_of(settings)
        self._note(Act.STARTED, self._policy)

    def policy(self) -> Mapping[str, Any]:
        """Give the policy that holds now."""
        return self._policy

    def changed(self, settings: AgentSettings) -> None:
        """Take in other settings; written down where they mean another policy."""
        policy = policy_of(settings)
        if policy != self._policy:
            self._policy = policy
            self._note(Act.POLICY_CHANGED, policy)

    def close(self) -> None:
        """Close the file."""
        self.trail.close()

    def _note(self, act: Act, facts: Mapping[str, Any]) -> None:
        try:
            self.trail.note(act, "agent", facts)
        except StorageError as error:
            log.error("%s", error)
