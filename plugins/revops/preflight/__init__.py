"""Checks before anything starts: settings, connections, servers, encoder. `python -m revops.preflight`."""
