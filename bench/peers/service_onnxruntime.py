"""The reference's service on onnxruntime: `python service_onnxruntime.py`, settings in LOCUS_PEER (see service.py)."""

import service

NAME = "service_onnxruntime"

if __name__ == "__main__":
    service.serve(NAME)
elif __name__ == NAME:
    from loop_onnxruntime import session

    running = session()
    app = service.create("onnxruntime", lambda row: running.run(None, row)[0][0].tolist())
