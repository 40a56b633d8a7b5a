"""Connections: the only place that asks Airflow for one."""
