"""`python -m strata`: the `strata` command, also where its script is not on the PATH."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # the working directory, whose files must not be imported

from strata.app.cli import main

sys.exit(main())
