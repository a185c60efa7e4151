"""Releases that were withdrawn: when, by whom, and why."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns; nothing is withdrawn yet."""
    with op.batch_alter_table("releases") as table:
        table.add_column(sa.Column("withdrawn_s", sa.Float(), nullable=True))
        table.add_column(sa.Column("withdrawn_by", sa.String(length=100), nullable=True))
        table.add_column(sa.Column("withdrawn_reason", sa.Text(), nullable=True))
