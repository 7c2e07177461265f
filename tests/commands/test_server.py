"""What `sweep server` says before it serves."""

import pytest

from sweep.commands.server import exposure
from sweep.tracking.mlflow_server import Address


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "lab"])
def test_a_server_that_lets_the_network_in_says_that_nobody_is_asked(host: str) -> None:
    line = exposure(Address(host, 5000))
    assert line.startswith(f"listening on {host}: whoever reaches port 5000 may read, change and delete every run")
    assert "asks nobody who they are" in line


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_on_loopback_there_is_nothing_to_say(host: str) -> None:
    assert exposure(Address(host, 5000)) == ""
