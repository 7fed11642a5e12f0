"""How Alembic reaches the catalog: over the engine that it is given."""

from __future__ import annotations

from alembic import context

from sandtrail.replay.index.tables import metadata

engine = context.config.attributes["engine"]
with engine.connect() as connection:
    if connection.dialect.name == "postgresql":
        # Nobody waits for us for long, and two upgrades never run at once.
        connection.exec_driver_sql("SET lock_timeout = '10s'")
        connection.exec_driver_sql("SET statement_timeout = '120s'")
        connection.exec_driver_sql("SELECT pg_advisory_lock(7263548)")
        connection.commit()
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_unlock(7263548)")
    connection.commit()
