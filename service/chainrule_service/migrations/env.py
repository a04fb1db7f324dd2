"""What Alembic runs for an upgrade: all revisions in the one transaction that `Database.upgrade` has begun."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
