"""What one writes first: a CrossEncoder behind FastAPI, one call a request.

A script: a folder and a port. One request at a time and one thread, as the service beside it has.
"""

import sys
import threading

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
import uvicorn  # noqa: E402
from fastapi import FastAPI  # noqa: E402
from pydantic import BaseModel  # noqa: E402
from sentence_transformers import CrossEncoder  # noqa: E402

BATCH = 8  # the fastest here, as in _packed_sides.py


class Asked(BaseModel):
    """One query and what is to be ordered."""

    query: str
    documents: list[str]


def make(folder: str) -> FastAPI:
    """The application."""
    torch.set_num_threads(1)
    encoder = CrossEncoder(folder, device="cpu", local_files_only=True)
    turn = threading.Lock()
    app = FastAPI()

    @app.post("/rerank")
    def rerank(asked: Asked) -> dict[str, list[dict[str, float]]]:
        pairs = [(asked.query, document) for document in asked.documents]
        with turn:
            scores = encoder.predict(pairs, batch_size=BATCH, show_progress_bar=False).tolist()
        order = sorted(range(len(scores)), key=lambda n: -scores[n])
        return {"results": [{"index": n, "relevance_score": scores[n]} for n in order]}

    return app


if __name__ == "__main__":
    uvicorn.run(make(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
