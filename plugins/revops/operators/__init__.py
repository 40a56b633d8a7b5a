"""Airflow operators: thin, over the plain functions of the package."""
