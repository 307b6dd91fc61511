"""What is in the environment under Strata's prefix without being an option of it."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Mapping
from difflib import get_close_matches

PREFIX = "STRATA_"

_LINK_VALUE = re.compile(r"(?:tcp|udp|sctp)://")
_LINK_PARTS = ("_PORT", "_PORT_", "_SERVICE_", "_NAME", "_ENV_")  # what follows the name of the Service or the link
_OTHERS = frozenset({"STRATA_MODEL_STORE", "STRATA_KEY"})  # of other commands


def is_link(name: str, value: str) -> bool:
    """Whether a variable was set by a Kubernetes Service or a container's link, and not by the operator.

    A Service called strata puts STRATA_PORT=tcp://10.96.0.12:80 into every container of its namespace.
    """
    return bool(_LINK_VALUE.match(value)) and name.upper().endswith("_PORT")


def by_variable(message: str, flags: Container[str]) -> str:
    """The message with STRATA_PORT instead of --port where a variable set the option and no flag did."""
    set_here = {name.upper() for name, value in os.environ.items() if value}

    def named(flag: re.Match[str]) -> str:
        option = flag[1].replace("-", "_")
        variable = PREFIX + option.upper()
        return variable if option not in flags and variable in set_here else flag[0]

    return re.sub(r"--([a-z]+(?:-[a-z]+)*)", named, message)


def remarks(environment: Mapping[str, str], options: Iterable[str]) -> list[str]:
    """A line for each variable that looks like an option and is ignored."""
    known = {PREFIX + option.upper() for option in options}
    ours = {name.upper(): value for name, value in environment.items() if name.upper().startswith(PREFIX)}
    links = tuple(
        name.removesuffix("_PORT") + part for name in ours if is_link(name, ours[name]) for part in _LINK_PARTS
    )
    found = []
    for name, value in sorted(ours.items()):
        if name in known:
            if is_link(name, value):
                found.append(f"{name}={value} is ignored: a Kubernetes Service or a container's link set it")
        elif name not in _OTHERS and not name.startswith(links):
            words = [other.removeprefix(PREFIX) for other in sorted(known | _OTHERS)]
            near = get_close_matches(name.removeprefix(PREFIX), words, n=1, cutoff=0.75)
            told = f"{PREFIX}{near[0]} is" if near else "`strata serve --help` lists them"
            found.append(f"{name} is no option; {told}")
    return found
