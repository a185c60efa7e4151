"""The tables of the manager, for SQLite and PostgreSQL alike. Times are seconds since 1970, UTC.

What only people read stands as JSON text; what is searched or counted has a column. Says nothing of how rows
come and go: the modules beside this one do.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only in a column of the type INTEGER.
_Count = BigInteger().with_variant(Integer, "sqlite")

devices = Table(
    "devices",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("profile", String(64), nullable=False),
    Column("labels", Text, nullable=False),
    Column("groups", Text, nullable=False),
    Column("timezone", String(64), nullable=False),
    Column("agent", String(100), nullable=False),
    Column("token_sha256", String(64), nullable=False, unique=True),
    Column("certificate_serial", String(64), nullable=False),
    Column("enrolled_s", Float, nullable=False),
    Column("revoked_s", Float),
    Column("online", Boolean, nullable=False),
    Column("seen_s", Float),
    Column("touched_s", Float, nullable=False, index=True),
    Column("report_seq", BigInteger, nullable=False),
    Column("report_time", String(40), nullable=False),
    Column("taken_seq", BigInteger, nullable=False),
    Column("desired_seq", BigInteger, nullable=False),
    Column("cancelled", Text, nullable=False),
    Column("have", Text, nullable=False),
    Column("health", Text, nullable=False),
)

revoked = Table(
    "revoked",
    metadata,
    Column("certificate_serial", String(64), primary_key=True),
    Column("device", String(64), nullable=False),
    Column("at_s", Float, nullable=False),
)

# Devices that the leader has to look at again, because another replica wrote about them.
dirty = Table(
    "dirty",
    metadata,
    Column("device", String(64), primary_key=True),
    Column("marks", BigInteger, nullable=False),
)

wanted = Table(
    "wanted",
    metadata,
    Column("device", String(64), ForeignKey("devices.name", ondelete="CASCADE"), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("content", Text),
    Column("good", Text),
    Column("removed", Boolean, nullable=False),
)

releases = Table(
    "releases",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("version", String(100), primary_key=True),
    Column("counter", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("target", String(400), nullable=False, unique=True),
    Column("deltas", Text, nullable=False),
    Column("profiles", Text, nullable=False),
    Column("published_s", Float, nullable=False),
    Column("published_by", String(100), nullable=False),
    Column("withdrawn_s", Float),
    Column("withdrawn_by", String(100)),
    Column("withdrawn_reason", Text),
    UniqueConstraint("kind", "name", "counter"),
)

reverts = Table(
    "reverts",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("counter", BigInteger, primary_key=True),
    Column("of", String(400), nullable=False),
    Column("target", String(400), nullable=False),
    Column("created_s", Float, nullable=False),
)

deployments = Table(
    "deployments",
    metadata,
    Column("n", _Count, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("name", String(64), nullable=False),
    Column("version", String(100), nullable=False),
    Column("content", Text, nullable=False),
    Column("full_allowed", Boolean, nullable=False),
    Column("trial", Text, nullable=False),
    Column("head", Text, nullable=False),
    Column("phase", String(16), nullable=False),
    Column("started", Boolean, nullable=False),
    Column("archived", Boolean, nullable=False, index=True),
    Column("created_s", Float, nullable=False),
    Column("created_by", String(100), nullable=False),
    Column("updated_s", Float, nullable=False, index=True),
)

members = Table(
    "members",
    metadata,
    Column("deployment", String(64), ForeignKey("deployments.id", ondelete="CASCADE"), primary_key=True),
    Column("device", String(64), primary_key=True),
    Column("wave", Integer, nullable=False),
    Column("zone", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("spread", Float, nullable=False),
    Column("online", Boolean, nullable=False),
    Column("blocked", Boolean, nullable=False),
    Column("straggler", Boolean, nullable=False),
    Column("forgiven", Boolean, nullable=False),
    Column("standing", String(16), nullable=False),
    Column("since_s", Float, nullable=False),
    Column("ready_s", Float),
    Column("deadline_s", Float),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("before", Text, nullable=False, server_default=""),
    Column("base", Text, nullable=False, server_default=""),
    Column("worse", Integer, nullable=False, server_default="0"),
    Column("detail", Text, nullable=False, server_default=""),
    Index(None, "device"),
    Index(None, "deployment", "standing"),
)

moves = Table(
    "moves",
    metadata,
    Column("n", _Count, primary_key=True, autoincrement=True),
    Column("deployment", String(64), nullable=False),
    Column("move", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("who", String(100), nullable=False),
    Column("asked_s", Float, nullable=False),
    Column("done_s", Float, index=True),
    Column("refused", Text),
)

events = Table(
    "events",
    metadata,
    Column("n", _Count, primary_key=True, autoincrement=True),
    Column("id", String(64)),
    Column("at_s", Float, nullable=False, index=True),
    Column("level", String(8), nullable=False),
    Column("code", String(64), nullable=False),
    Column("text", Text, nullable=False),
    Column("device", String(64), index=True),
    Column("deployment", String(64), index=True),
    UniqueConstraint("device", "id"),
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    metadata,
    Column("n", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at_s", Float, nullable=False),
    Column("who", String(100), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("detail", Text, nullable=False),
    Column("hash", String(64), nullable=False),
)

# One row: the end of the audit log, which writers lock, and the leader's number.
heads = Table(
    "heads",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("n", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", _Count, primary_key=True, autoincrement=True),
    Column("name", String(100), nullable=False),
    Column("role", String(16), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("created_s", Float, nullable=False),
    Column("created_by", String(100), nullable=False),
    Column("expires_s", Float),
    Column("revoked_s", Float),
    Column("used_s", Float),
)

enrolments = Table(
    "enrolments",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("device", String(64)),
    Column("labels", Text, nullable=False),
    Column("groups", Text, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("created_by", String(100), nullable=False),
    Column("expires_s", Float, nullable=False),
    Column("used_s", Float),
    Column("used_device", String(64)),
    Column("used_key", String(64)),
)

files = Table(
    "files",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("changed_s", Float, nullable=False),
)
