"""Source to raw: plain functions over two connections, without Airflow."""
