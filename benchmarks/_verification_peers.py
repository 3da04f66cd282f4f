"""The peers of `verification.py`, in an environment of their own; nothing of this project is here.

`python _verification_peers.py lirpa FILE` bounds the network and the boxes of an `.npz` file by
CROWN: for each line `BATCH REPEATS` it prints the CPU-seconds of a box, after a line of outputs'
lower bounds. `... marabou FILE` solves the queries of a JSON file and prints the answers.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from typing import Any

import numpy as np

warnings.simplefilter("ignore")


def lirpa(file: str) -> None:
    """CROWN of auto_LiRPA with its usual options, lower bounds alone."""
    logging.disable(logging.WARNING)
    import torch
    from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm

    torch.set_num_threads(1)
    data = np.load(file)
    steps: list[Any] = []
    for i in range(int(data["layers"])):
        weight, bias = torch.tensor(data[f"w{i}"]), torch.tensor(data[f"b{i}"])
        step = torch.nn.Linear(weight.shape[1], weight.shape[0])
        step.weight.data, step.bias.data = weight, bias
        steps += [step, torch.nn.ReLU()]
    low, high = torch.tensor(data["low"]), torch.tensor(data["high"])
    net = BoundedModule(torch.nn.Sequential(*steps[:-1]), low[:2])

    def call(batch: int) -> Any:
        a, b = low[:batch], high[:batch]
        x = BoundedTensor(a, PerturbationLpNorm(norm=np.inf, x_L=a, x_U=b))
        with torch.no_grad():
            return net.compute_bounds(x=(x,), method="CROWN", bound_upper=False)[0]

    print(f"auto_LiRPA {sys.modules['auto_LiRPA'].__version__}, torch {torch.__version__}")
    print(json.dumps(call(len(low)).tolist()), flush=True)
    for line in sys.stdin:
        batch, repeats = map(int, line.split())
        start = time.process_time()
        for _ in range(repeats):
            call(batch)
        print((time.process_time() - start) / repeats / batch, flush=True)


def marabou(file: str) -> None:
    """A query for each clause of each box, until one is satisfiable."""
    from maraboupy import Marabou

    with open(file) as source:
        asked = json.load(source)
    options = Marabou.createOptions(verbosity=0, numWorkers=1)
    spent, answer = 0.0, "unsat"
    for box in asked["boxes"]:
        for clause in box["clauses"]:
            net = Marabou.read_onnx(asked["onnx"])
            inputs = np.concatenate([np.ravel(v) for v in net.inputVars]).tolist()
            outputs = np.concatenate([np.ravel(v) for v in net.outputVars]).tolist()
            for v, a, b in zip(inputs, box["low"], box["high"], strict=True):
                net.setLowerBound(v, a)
                net.setUpperBound(v, b)
            for row, bound in clause:
                used = [(v, w) for v, w in zip(outputs, row, strict=True) if w]
                net.addInequality([v for v, _ in used], [w for _, w in used], bound)
            start = time.process_time()
            code = net.solve(verbose=False, options=options)[0]
            spent += time.process_time() - start
            if code != "unsat":
                answer = code
                break
        if answer != "unsat":
            break
    print(json.dumps({"answer": answer, "seconds": spent}), flush=True)


if __name__ == "__main__":
    {"lirpa": lirpa, "marabou": marabou}[sys.argv[1]](sys.argv[2])
