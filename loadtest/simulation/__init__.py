"""Traffic past this machine: the server's own scheduler, before engines and a clock that are computed."""
