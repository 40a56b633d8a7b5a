"""Libraries that tasks import, loaded by the scheduler: it forks the tasks, and a night takes a fifth less time.

Nothing of the project itself: whoever edits it would have to restart the scheduler to see it run.
"""

import airflow.providers.docker.operators.docker
import airflow.providers.standard.decorators.python  # noqa: F401
import cryptography.hazmat.primitives.ciphers.aead  # noqa: F401
import docker  # noqa: F401
import psycopg  # noqa: F401
import sqlglot  # noqa: F401
