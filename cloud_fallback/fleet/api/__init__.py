"""The manager's HTTP API: who may ask, what is checked, what is answered. Decides no rollout."""
