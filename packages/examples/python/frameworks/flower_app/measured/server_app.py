"""What the server does: FedAvg as Flower has it."""

import json
import os
import time

from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from measured.model import Model, draw
from tensorwire.model_file import OutgoingModel

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    if config["plug-in"]:
        from tensorwire.flower import ReferenceGrid

        grid = ReferenceGrid(grid, context, patience=float(config["patience"]))
    arrays = ArrayRecord()
    for name, value in draw(Model(int(config["mib"]), mixed=False)).items():
        arrays[name] = Array(value)

    def note(round_number: int, _: ArrayRecord) -> None:
        with open(str(config["log"]), "a", encoding="utf-8") as log:
            what = "round" if round_number else "begin"
            log.write(json.dumps({"what": what, "time": time.monotonic(), "pid": os.getpid()}) + "\n")

    clients = int(config["clients"])
    strategy = FedAvg(fraction_evaluate=0, min_train_nodes=clients, min_available_nodes=clients)
    result = strategy.start(grid, arrays, num_rounds=int(config["rounds"]), evaluate_fn=note)
    if config["keep"]:
        OutgoingModel({name: array.numpy() for name, array in result.arrays.items()}).write(str(config["keep"]))
