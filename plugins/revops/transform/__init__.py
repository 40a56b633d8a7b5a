"""Raw to core, core to search: tables that SQL files describe, kept in the state described."""
