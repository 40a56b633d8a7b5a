# Airflow with the DAGs: scheduler, dag-processor, triggerer, api-server and workers all run this image.
#   docker build -t revops-airflow .
# For images that are the same to the byte, give the base by its digest:
# --build-arg BASE=apache/airflow:3.3.2-python3.11@sha256:...
ARG BASE=apache/airflow:3.3.2-python3.11
FROM ${BASE}

# Written by whatever account runs the container, with the group 0: a fresh volume takes these rights over.
USER 0
RUN install --directory --owner 50000 --group 0 --mode 0775 \
    /var/lib/revops /var/lib/revops/embedding /var/lib/revops/reports /var/lib/revops/sample /opt/airflow/logs
USER 50000:0

# From what changes least to what changes most: a change of the code below costs seconds and a few kilobytes.
# What the base brings and the lock does not name goes first; what is left at the end is the lock's, to the version.
WORKDIR /opt/airflow
COPY include/airflow/unlocked.py requirements.txt constraints.txt /opt/airflow/lock/
RUN python lock/unlocked.py lock/constraints.txt | xargs --no-run-if-empty pip uninstall --quiet --yes \
    && pip install --no-cache-dir --disable-pip-version-check --no-warn-script-location --requirement lock/requirements.txt \
    && test -z "$(python lock/unlocked.py lock/constraints.txt)" \
    && pip check

# HOME: where the packages are found by the account of any number.
# PYTHONDONTWRITEBYTECODE: the root is read-only. All of the bytecode is made here, once for every container: without it
# each command of Airflow computes 3 s longer.
ENV HOME=/home/airflow \
    PYTHONPATH=/opt/airflow/plugins \
    PYTHONDONTWRITEBYTECODE=1 \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/airflow/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/airflow/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False

COPY include/airflow/airflow.cfg ./
COPY include/anomaly.yaml include/retention.yaml ./include/
COPY include/airflow/pools.json ./include/airflow/
COPY include/seeds ./include/seeds
COPY include/soda ./include/soda
COPY include/sources ./include/sources
COPY include/sql ./include/sql
COPY plugins ./plugins
COPY dags ./dags
USER 0
# A checkout made under a strict umask is not readable by the account of another number.
RUN chmod -R a+rX,go-w include plugins dags airflow.cfg \
    && python -m compileall -q --invalidation-mode unchecked-hash plugins dags
USER 50000:0
