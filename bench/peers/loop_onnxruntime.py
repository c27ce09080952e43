"""onnxruntime in a loop, without a service: reads rows as the services do, prints the time of each run in milliseconds."""

import json
import pathlib
import time

import onnxruntime

import service


def session():
    options = onnxruntime.SessionOptions()
    if service.SETTINGS["threads"]:
        options.intra_op_num_threads = service.SETTINGS["threads"]
    return onnxruntime.InferenceSession(service.GRAPH, options, providers=["CPUExecutionProvider"])


def main():
    asked = json.loads(pathlib.Path(service.SETTINGS["folder"], "warm.json").read_text())
    names = ("sequence", "mutation", "strand", "track", "features")
    rows = [service.inputs_of(*(row.get(name, "") for name in names)) for row in asked]
    running = session()
    for row in rows * 3:
        running.run(None, row)
    times, began, n = [], time.perf_counter(), 0
    while time.perf_counter() - began < service.SETTINGS["seconds"]:
        started = time.perf_counter()
        running.run(None, rows[n % len(rows)])
        times.append(1e3 * (time.perf_counter() - started))
        n += 1
    print(json.dumps(times))


if __name__ == "__main__":
    main()
