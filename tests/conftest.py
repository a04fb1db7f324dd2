"""All tests run on the compiled kernels; CHAINRULE_ENGINE=python runs them on the plain ones."""

from __future__ import annotations

import os

os.environ.setdefault("CHAINRULE_ENGINE", "compiled")
