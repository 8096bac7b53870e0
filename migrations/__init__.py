"""The schema's history. `jobs.database.migrate` applies it; it sees `jobs.tables` only."""
