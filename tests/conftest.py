"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# What a test means by remotes does not depend on the engine and images of the machine.
os.environ["RAYGYM_BACKEND"] = "process"

# The same examples in every run: a check that fails now and then is no check. More, and
# random ones, with HYPOTHESIS_PROFILE=search.
settings.register_profile("steady", max_examples=40, deadline=None, derandomize=True)
settings.register_profile("search", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
