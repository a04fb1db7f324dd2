"""Run the benchmarks: `make bench`."""

import sys

from benchmarks.http_cost import main

sys.exit(main())
