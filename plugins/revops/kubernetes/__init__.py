"""Airflow on Kubernetes: what the Helm chart's job runs first, and the pods of tasks that run the encoder."""
