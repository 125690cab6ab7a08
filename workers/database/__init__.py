"""The database: connection, the embedded server, versions, migration, backup."""
