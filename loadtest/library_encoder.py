"""Run by the Python of a peer's environment, which lacks this package: encodes what lines of JSON ask for.

The first argument is JSON: ``kind``, ``model`` (a sentence-transformers folder), ``threads``, ``texts`` (a file to
calibrate int8 on) and ``kept`` (where what OpenVINO exports is kept). A line of stdin is ``{"texts", "batch"}``, with
``alone`` to encode them one by one, with ``vectors`` to answer with them; the answer is a line of stdout.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def load(told: dict[str, Any]) -> Any:
    """The SentenceTransformer of a kind."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(told["threads"])
    if told["kind"] == "torch":
        return SentenceTransformer(told["model"], device="cpu", model_kwargs={"torch_dtype": torch.bfloat16})
    config = {"INFERENCE_NUM_THREADS": told["threads"], "PERFORMANCE_HINT": "LATENCY"}
    config["INFERENCE_PRECISION_HINT"] = "bf16"  # what is not int8; not the default on every CPU that has it
    folder = Path(told["kept"]) / Path(told["model"]).name
    options: dict[str, Any] = {"backend": "openvino", "device": "cpu"}
    if not folder.is_dir():
        exported = SentenceTransformer(told["model"], model_kwargs={"export": True}, **options)
        exported.save_pretrained(str(folder))
    if told["kind"] == "openvino":
        return SentenceTransformer(str(folder), model_kwargs={"ov_config": config}, **options)
    import openvino

    name = "openvino_model_static_int8.xml"
    file = folder / "openvino" / name
    if not file.is_file():
        quantised = _quantise(SentenceTransformer(str(folder), **options), Path(told["texts"]))
        openvino.save_model(quantised, str(file))
    return SentenceTransformer(
        str(folder), model_kwargs={"ov_config": config, "file_name": f"openvino/{name}"}, **options
    )


def _quantise(model: Any, file: Path) -> Any:
    """Static int8 with SmoothQuant, as OpenVINO's guide has it for transformers."""
    import nncf

    texts = file.read_text(encoding="utf-8").splitlines()
    inner = model[0].auto_model

    def features(text: str) -> dict[str, Any]:
        found = {name: value.numpy() for name, value in model.tokenize([text]).items() if hasattr(value, "numpy")}
        names = [name for each in inner.model.inputs for name in each.get_names()]
        if "token_type_ids" in names and "token_type_ids" not in found:
            found["token_type_ids"] = found["input_ids"] * 0
        return {name: found[name] for name in names if name in found}

    return nncf.quantize(inner.model, nncf.Dataset(texts, features), model_type=nncf.ModelType.TRANSFORMER)


def encode(model: Any, command: dict[str, Any]) -> dict[str, Any]:
    """Do what a line asks."""
    texts, options = command["texts"], {"batch_size": command["batch"], "show_progress_bar": False}
    if command.get("alone"):
        each = []
        for text in texts:
            began = time.perf_counter()
            model.encode(text, **options)
            each.append(time.perf_counter() - began)
        return {"each": each}
    began = time.perf_counter()
    vectors = model.encode(texts, **options)
    answer: dict[str, Any] = {"seconds": time.perf_counter() - began}
    if command.get("vectors"):
        answer["vectors"] = base64.b64encode(vectors.astype("float32").tobytes()).decode()
    return answer


def main() -> None:
    """Until stdin ends."""
    out = os.fdopen(os.dup(1), "w")  # libraries print to stdout
    os.dup2(2, 1)
    model = load(json.loads(sys.argv[1]))
    print("{}", file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(encode(model, json.loads(line))), file=out, flush=True)


if __name__ == "__main__":
    main()
