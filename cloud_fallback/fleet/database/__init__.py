"""The manager's database: the truth about a fleet. Functions over SQLAlchemy Core; no rule of a rollout."""
