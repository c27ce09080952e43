"""The reference's service on PyTorch: `python service_torch.py`, settings in LOCUS_PEER (see service.py)."""

import service

NAME = "service_torch"

if __name__ == "__main__":
    service.serve(NAME)
elif __name__ == NAME:
    import torch

    from torch_model import Model

    if service.SETTINGS["threads"]:
        torch.set_num_threads(service.SETTINGS["threads"])
    model = Model(service.GRAPH, service.CONFIG).eval()

    @torch.inference_mode()
    def logits_of(row):
        return model({name: torch.tensor(values) for name, values in row.items()})[0].tolist()

    app = service.create("pytorch", logits_of)
