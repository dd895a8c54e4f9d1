"""Jobs: how calls become jobs, wait for their turn in their model's queue, run, and yield answers.

Order within the folder, lowest first: `calls` and `counters`; `errors`; `job` and `prediction`; `predict_job` and
`long_job`; `job_factories` and `model_queue`; `hosted_models`. Nothing here knows sockets, or decides which thread runs
a job. Of this repository the folder imports `worker.models` and `cluster`.
"""
