"""Kernels of this process are interpreted, on the CPU: set before anything imports them."""

import os

os.environ["TRITON_INTERPRET"] = "1"
