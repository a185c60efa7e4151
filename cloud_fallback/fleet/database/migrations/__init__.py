"""Steps from an older database of the manager to the present one, run by Alembic."""
