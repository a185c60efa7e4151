"""Runs the steps on the connection that `cloud_fallback.fleet.database.connection.migrate` hands over."""

from alembic import context

from cloud_fallback.fleet.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,  # the caller has begun the transaction, and ends it
)
context.run_migrations()
