"""A worker: one process that hosts models and answers the broker's calls.

The folders, lowest first; none imports a folder that comes after it:

- `models`: finds, loads and describes models.
- `jobs`: turns calls into jobs, queues them by model, and counts them.
- `loop`: the connection to the broker, the message loop, and the threads that run it.
- `http`: the pages for Prometheus and health checks.

`__main__` puts them together; `settings` has the environment variables, `config` the models of each environment.
"""

from cluster.runtime import compiled

compiled.use()
