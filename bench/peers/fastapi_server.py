"""FastAPI, run by uvicorn: uvicorn fastapi_server:app --workers 2. BENCH_MODEL names the model."""

import json
import os
from collections.abc import AsyncIterator
from typing import Any

import peer_models
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

app = FastAPI()
model = peer_models.load()

# No response model and no validation, which would cost CPU time.
if os.environ["BENCH_MODEL"] == "tensor":

    @app.post("/predict")  # type: ignore[untyped-decorator]
    async def predict_tensor(request: Request) -> Any:
        """Predict a tensor that is the body."""
        return model.predict(await request.body())

elif os.environ["BENCH_MODEL"] == "stream":

    @app.post("/predict")  # type: ignore[untyped-decorator]
    async def predict_stream(request: Request) -> StreamingResponse:
        """Answer with one line of JSON for each item."""
        rows = await request.json()

        async def lines() -> AsyncIterator[str]:
            for item in model.predict(rows):
                yield json.dumps(item) + "\n"

        return StreamingResponse(lines())

else:

    @app.post("/predict")  # type: ignore[untyped-decorator]
    async def predict(request: Request) -> Any:
        """Predict what the body says in JSON."""
        return model.predict(await request.json())
