"""The signals that an engine process leaves to the front, which is who is told to drain, to reload or to end."""

from __future__ import annotations

import signal

# Closed terminals and `systemctl kill` send them to every process there is.
FRONT_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
