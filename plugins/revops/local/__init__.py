"""The embedded stack for development, tests and the demo: PostgreSQL, sample sources, Airflow on one machine."""
