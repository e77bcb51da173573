"""Other tests run beside these on as many cores: torch gets one thread, waits for none."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
