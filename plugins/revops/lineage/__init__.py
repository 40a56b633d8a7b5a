"""Where core's rows and columns come from: edges read from the SQL files, records in ops, OpenLineage events."""
