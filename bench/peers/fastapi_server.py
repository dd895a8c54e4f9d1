"""FastAPI, run by uvicorn: uvicorn fastapi_server:app --workers 2."""

from typing import Any

from fastapi import FastAPI, Request
from iris import Iris

app = FastAPI()
iris = Iris()


@app.post("/predict")  # type: ignore[untyped-decorator]
async def predict(request: Request) -> dict[str, Any]:
    """Predict one row, without a response model or validation, which would cost CPU time."""
    row: dict[str, float] = await request.json()
    species: dict[str, str] = iris.predict(row)
    return species
