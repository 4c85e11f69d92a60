"""Server that `serving.py` compares with `kvae serve`: FastAPI and ONNX Runtime, 20 lines without checks or limits."""

import numpy as np
import onnxruntime
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel

app = FastAPI()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession("saved_models/mnist/decoder.onnx", options)


class Request(BaseModel):
    """Body of a request."""

    label: int
    n: int = 1
    seed: int = 0


@app.post("/sample")
def sample(request: Request) -> JSONResponse:
    z = np.random.default_rng(request.seed).standard_normal((request.n, 16), np.float32)
    (x,) = session.run(["x_mean"], {"z": z, "label": np.full(request.n, request.label)})
    return JSONResponse({"x": x.tolist()})
