"""The training script, whose first step at site-2 stands still in mid-round."""

import os
import runpy
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import model  # noqa: E402
from mid_round import holding  # noqa: E402

model.step = holding(model.step, 1, os.environ["FAULT_FOLDER"])
runpy.run_path(os.path.join(HERE, "nvflare_train.py"), run_name="__main__")
