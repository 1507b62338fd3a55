import socket
import subprocess
import sys

from tests.support.ports import PORTS, SHARE, Ports


def test_no_port_is_given_out_twice_before_all_were() -> None:
    ports = Ports()
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", before := ports.free()))
        given = [ports.free() for _ in range(SHARE)]
    assert before not in given
    assert len(set(given)) > SHARE - 20, "ports on which nothing listens come one after the other"
    assert set(given) <= set(PORTS)


def test_processes_have_ports_of_their_own() -> None:
    program = "from tests.support.ports import Ports; p = Ports(); print(p.free(), flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    others = [subprocess.Popen([sys.executable, "-c", program], text=True, **pipes) for _ in range(4)]  # type: ignore[call-overload]
    try:
        shares = [(int(other.stdout.readline()) - PORTS.start) // SHARE for other in others]
        ours = (Ports().free() - PORTS.start) // SHARE
    finally:
        for other in others:
            other.communicate("\n")
    assert len({*shares, ours}) == 5
