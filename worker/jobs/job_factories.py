"""Which jobs answer the calls of each procedure of a model."""

from collections.abc import Callable, Sequence
from functools import partial

from worker.jobs.calls import Call, Registration
from worker.jobs.job import Job
from worker.jobs.long_job import RowsJob, StreamJob
from worker.jobs.predict_job import PredictJob
from worker.jobs.prediction import Prediction

JobFactory = Callable[[Registration, Sequence[Call]], list[Job]]
"""Makes the jobs that answer the calls of one message."""


def job_factories(prediction: Prediction) -> dict[bytes, JobFactory]:
    """The factory of each procedure of a model, by the name that WORK has for the procedure."""
    model = prediction.model.description
    factories: dict[bytes, JobFactory] = {}
    for procedure in model.procedures:
        make = _stream_jobs if procedure.is_stream else _rows_jobs if procedure.is_list else _predict_jobs
        factories[model.pinned(procedure.name).encode()] = partial(make, procedure.name, prediction)
    return factories


def _predict_jobs(name: str, prediction: Prediction, registration: Registration, calls: Sequence[Call]) -> list[Job]:
    """`<qualified_name>_predict(data)`: one job for all calls."""
    return [PredictJob(registration, name, prediction, calls)]


def _rows_jobs(name: str, prediction: Prediction, registration: Registration, calls: Sequence[Call]) -> list[Job]:
    """`<qualified_name>_predict_batch(rows)`: a job for each call, because it may take long."""
    return [RowsJob(registration, name, prediction, call) for call in calls]


def _stream_jobs(name: str, prediction: Prediction, registration: Registration, calls: Sequence[Call]) -> list[Job]:
    """`<qualified_name>_predict_stream(rows)`, or `(data)` if the model makes its own streams: a job for each call."""
    source = prediction.rows_outputs if prediction.model.predict_stream is None else prediction.stream_outputs
    return [StreamJob(registration, name, prediction, call, source) for call in calls]
