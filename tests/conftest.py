"""Settings of the whole test suite."""

import os

from hypothesis import settings

from cluster.runtime import compiled

compiled.use()
assert not compiled.objection(), compiled.objection()

# In CI the same examples each time: what fails there fails for its change, and not by chance.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "here")

pytest_plugins = ["tests.figures", "tests.scheduling"]
