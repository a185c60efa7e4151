"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make them."""
    for each in (
        _audit,
        _deployments,
        _devices,
        _dirty,
        _enrolments,
        _events,
        _files,
        _heads,
        _moves,
        _releases,
        _reverts,
        _revoked,
        _tokens,
        _members,
        _wanted,
    ):
        each()


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("n", _COUNT, autoincrement=False, nullable=False),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.Column("who", sa.String(length=100), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("n", name=op.f("pk_audit")),
    )


def _deployments() -> None:
    op.create_table(
        "deployments",
        sa.Column("n", _COUNT, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=100), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("full_allowed", sa.Boolean(), nullable=False),
        sa.Column("trial", sa.Text(), nullable=False),
        sa.Column("head", sa.Text(), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("started", sa.Boolean(), nullable=False),
        sa.Column("archived", sa.Boolean(), nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("updated_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("n", name=op.f("pk_deployments")),
        sa.UniqueConstraint("id", name=op.f("uq_deployments_id")),
    )
    op.create_index(op.f("ix_deployments_archived"), "deployments", ["archived"], unique=False)
    op.create_index(op.f("ix_deployments_updated_s"), "deployments", ["updated_s"], unique=False)


def _devices() -> None:
    op.create_table(
        "devices",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("profile", sa.String(length=64), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("groups", sa.Text(), nullable=False),
        sa.Column("timezone", sa.String(length=64), nullable=False),
        sa.Column("agent", sa.String(length=100), nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("certificate_serial", sa.String(length=64), nullable=False),
        sa.Column("enrolled_s", sa.Float(), nullable=False),
        sa.Column("revoked_s", sa.Float(), nullable=True),
        sa.Column("online", sa.Boolean(), nullable=False),
        sa.Column("seen_s", sa.Float(), nullable=True),
        sa.Column("touched_s", sa.Float(), nullable=False),
        sa.Column("report_seq", sa.BigInteger(), nullable=False),
        sa.Column("report_time", sa.String(length=40), nullable=False),
        sa.Column("taken_seq", sa.BigInteger(), nullable=False),
        sa.Column("desired_seq", sa.BigInteger(), nullable=False),
        sa.Column("cancelled", sa.Text(), nullable=False),
        sa.Column("have", sa.Text(), nullable=False),
        sa.Column("health", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_devices")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_devices_token_sha256")),
    )
    op.create_index(op.f("ix_devices_touched_s"), "devices", ["touched_s"], unique=False)


def _dirty() -> None:
    op.create_table(
        "dirty",
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("marks", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device", name=op.f("pk_dirty")),
    )


def _enrolments() -> None:
    op.create_table(
        "enrolments",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=True),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("groups", sa.Text(), nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("expires_s", sa.Float(), nullable=False),
        sa.Column("used_s", sa.Float(), nullable=True),
        sa.Column("used_device", sa.String(length=64), nullable=True),
        sa.Column("used_key", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_enrolments")),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("n", _COUNT, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=True),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.Column("level", sa.String(length=8), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=True),
        sa.Column("deployment", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("n", name=op.f("pk_events")),
        sa.UniqueConstraint("device", "id", name=op.f("uq_events_device_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_events_at_s"), "events", ["at_s"], unique=False)
    op.create_index(op.f("ix_events_deployment"), "events", ["deployment"], unique=False)
    op.create_index(op.f("ix_events_device"), "events", ["device"], unique=False)


def _files() -> None:
    op.create_table(
        "files",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("changed_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_files")),
    )


def _heads() -> None:
    op.create_table(
        "heads",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_heads")),
    )


def _moves() -> None:
    op.create_table(
        "moves",
        sa.Column("n", _COUNT, autoincrement=True, nullable=False),
        sa.Column("deployment", sa.String(length=64), nullable=False),
        sa.Column("move", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("who", sa.String(length=100), nullable=False),
        sa.Column("asked_s", sa.Float(), nullable=False),
        sa.Column("done_s", sa.Float(), nullable=True),
        sa.Column("refused", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("n", name=op.f("pk_moves")),
    )
    op.create_index(op.f("ix_moves_done_s"), "moves", ["done_s"], unique=False)


def _releases() -> None:
    op.create_table(
        "releases",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=100), nullable=False),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.String(length=400), nullable=False),
        sa.Column("deltas", sa.Text(), nullable=False),
        sa.Column("profiles", sa.Text(), nullable=False),
        sa.Column("published_s", sa.Float(), nullable=False),
        sa.Column("published_by", sa.String(length=100), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", "version", name=op.f("pk_releases")),
        sa.UniqueConstraint("kind", "name", "counter", name=op.f("uq_releases_kind_name_counter")),
        sa.UniqueConstraint("target", name=op.f("uq_releases_target")),
    )


def _reverts() -> None:
    op.create_table(
        "reverts",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.Column("of", sa.String(length=400), nullable=False),
        sa.Column("target", sa.String(length=400), nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", "counter", name=op.f("pk_reverts")),
    )


def _revoked() -> None:
    op.create_table(
        "revoked",
        sa.Column("certificate_serial", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("certificate_serial", name=op.f("pk_revoked")),
    )


def _tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", _COUNT, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("expires_s", sa.Float(), nullable=True),
        sa.Column("revoked_s", sa.Float(), nullable=True),
        sa.Column("used_s", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("sha256", name=op.f("uq_tokens_sha256")),
    )


def _members() -> None:
    op.create_table(
        "members",
        sa.Column("deployment", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column("zone", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("spread", sa.Float(), nullable=False),
        sa.Column("online", sa.Boolean(), nullable=False),
        sa.Column("blocked", sa.Boolean(), nullable=False),
        sa.Column("straggler", sa.Boolean(), nullable=False),
        sa.Column("forgiven", sa.Boolean(), nullable=False),
        sa.Column("standing", sa.String(length=16), nullable=False),
        sa.Column("since_s", sa.Float(), nullable=False),
        sa.Column("ready_s", sa.Float(), nullable=True),
        sa.Column("deadline_s", sa.Float(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("before", sa.Text(), server_default="", nullable=False),
        sa.Column("base", sa.Text(), server_default="", nullable=False),
        sa.Column("worse", sa.Integer(), server_default="0", nullable=False),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment"], ["deployments.id"], name=op.f("fk_members_deployment"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("deployment", "device", name=op.f("pk_members")),
    )
    op.create_index(
        op.f("ix_members_deployment_standing"), "members", ["deployment", "standing"], unique=False
    )
    op.create_index(op.f("ix_members_device"), "members", ["device"], unique=False)


def _wanted() -> None:
    op.create_table(
        "wanted",
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("content", sa.Text(), nullable=True),
        sa.Column("good", sa.Text(), nullable=True),
        sa.Column("removed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device"], ["devices.name"], name=op.f("fk_wanted_device"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("device", "kind", "name", name=op.f("pk_wanted")),
    )
