"""What both peers share: the reference's tokens, its POST /predict and GET /health, and uvicorn around them.

Settings come as JSON in the variable LOCUS_PEER. `plain` is the service as the reference runs it: FastAPI checks the body and
writes the answer, uvicorn has its defaults. Without it orjson reads the body and writes the answer, and nothing is logged.
Both run on uvloop and httptools, as `uvicorn[standard]` does: on asyncio's own loop several workers leave Nagle's algorithm
on, and every answer on a connection that stays open waits 40 ms for it.
"""

import asyncio
import base64
import concurrent.futures
import ctypes
import itertools
import json
import math
import os
import pathlib
import re
import signal
import sys

import numpy as np
import orjson
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel

# Ends with whoever started it, killed or not; Linux's PR_SET_PDEATHSIG.
ctypes.CDLL(None).prctl(1, signal.SIGKILL)

SETTINGS = json.loads(os.environ["LOCUS_PEER"])
CONFIG = json.loads(pathlib.Path(SETTINGS["folder"], "config.json").read_text())
GRAPH = str(pathlib.Path(SETTINGS["folder"], "fp32.onnx"))
TOKENS = SETTINGS["tokens"]
PAD, UNK, CLS, SEP = 0, 1, 2, 3
VOCABULARY = {"".join(kmer): 5 + n for n, kmer in enumerate(itertools.product("ACGT", repeat=3))}
COMPLEMENT = str.maketrans("ACGTN", "TGCAN")
MUTATION = re.compile(r"([ACGT])([1-9][0-9]*)([ACGT])")
DESCRIPTION = ["良性", "致病性"]


class Asked(BaseModel):
    """A sequence, in a pair model with what changes in it; track, strand and features are what its transcript gives."""

    sequence: str
    mutation: str | None = None
    strand: str = "+"
    track: str = ""
    features: str = ""


class Answer(BaseModel):
    mutation: str | None
    predicted_label: int
    predicted_description: str
    pathogenic_probability: float
    benign_probability: float


def ids_of(bases):
    """Overlapping 3-mers by look-ups in a dictionary, padded."""
    ids = [CLS] + [VOCABULARY.get(bases[n : n + 3], UNK) for n in range(len(bases) - 2)][: TOKENS - 2] + [SEP]
    return ids + [PAD] * (TOKENS - len(ids))


def wrong(detail):
    return HTTPException(status_code=400, detail=detail)


def inputs_of(sequence, mutation, strand, track, features):
    """The inputs of the graph, by name: one row."""
    bases = sequence.upper()
    if not bases or set(bases) - set("ACGTN"):
        raise wrong("the sequence holds other letters than A, C, G, T and N")
    kinds = [int(code) for code in track]
    kinds = np.array([kinds + [0] * (TOKENS - len(kinds))], dtype=np.int64)
    if CONFIG["head"] == "sequence":
        ids = np.array([ids_of(bases)], dtype=np.int64)
        return {"ids": ids, "track": kinds, "mask": (ids != PAD).astype(np.int64)}
    read = MUTATION.fullmatch(mutation or "")
    at = int(read[2]) - 1 if read else -1
    side = SETTINGS["window_bases"] // 2
    if not read or at >= len(bases) or bases[at] != read[1]:
        raise wrong("the mutation does not fit the sequence")
    window, base = bases[max(at - side, 0) : at + side + 1], read[3]
    if strand == "-":
        window, base = window.translate(COMPLEMENT)[::-1], base.translate(COMPLEMENT)
    ref = np.array([ids_of(window)], dtype=np.int64)
    alt = np.array([ids_of(window[:side] + base + window[side + 1 :])], dtype=np.int64)
    mask = (ref != PAD).astype(np.int64)
    ready = np.frombuffer(base64.b64decode(features), dtype="<f4").reshape(1, -1)
    return {"ref_ids": ref, "alt_ids": alt, "ref_track": kinds, "alt_track": kinds, "ref_mask": mask,
            "alt_mask": mask, "features": ready}


def answer_of(mutation, logits):
    """One logit is evidence for the one label; of two, softmax makes probabilities."""
    scaled = [logit / SETTINGS["temperature"] + offset for logit, offset in zip(logits, SETTINGS["offsets"])]
    against, evidence = scaled if len(scaled) == 2 else (0.0, scaled[0])
    pathogenic = 1.0 / (1.0 + math.exp(against - evidence))
    label = int(pathogenic >= 0.5)
    return {"mutation": mutation, "predicted_label": label, "predicted_description": DESCRIPTION[label],
            "pathogenic_probability": pathogenic, "benign_probability": 1.0 - pathogenic}


def create(name, logits_of):
    """The service; `logits_of` takes the inputs of a graph by name and gives the logits of the row."""
    app = FastAPI()

    def answered(asked):
        row = inputs_of(asked["sequence"], asked.get("mutation"), asked.get("strand", "+"),
                        asked.get("track", ""), asked.get("features", ""))
        return answer_of(asked.get("mutation"), logits_of(row))

    if SETTINGS["plain"]:

        @app.post("/predict", response_model=Answer)
        async def predict(asked: Asked):
            return answered(asked.model_dump())

    else:
        pool = concurrent.futures.ThreadPoolExecutor(SETTINGS["pool"]) if SETTINGS["pool"] else None

        def encoded(body):
            return orjson.dumps(answered(orjson.loads(body)))

        @app.post("/predict")
        async def predict(request: Request):
            body = await request.body()
            if pool is None:
                said = encoded(body)
            else:
                said = await asyncio.get_running_loop().run_in_executor(pool, encoded, body)
            return Response(said, media_type="application/json")

    @app.get("/health")
    async def health():
        return {"status": "ok", "model": name}

    for row in json.loads(pathlib.Path(SETTINGS["folder"], "warm.json").read_text()) * 3:
        answered(row)
    # Whoever waits for the service waits for all of its processes.
    pathlib.Path(SETTINGS["ready"], str(os.getpid())).touch()
    return app


def serve(module):
    """Runs the service of a module until it is ended."""
    quiet = {} if SETTINGS["plain"] else {"access_log": False, "log_level": "warning"}
    uvicorn.run(f"{module}:app", host="127.0.0.1", port=SETTINGS["port"], workers=SETTINGS["workers"], loop="uvloop",
                http="httptools", app_dir=os.path.dirname(os.path.abspath(sys.argv[0])), **quiet)
