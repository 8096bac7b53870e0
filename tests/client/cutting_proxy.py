"""A proxy in front of a service. Each connection is cut when so many bytes of requests, or of answers, have gone through."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def cutting(port: int, after_bytes: int, *, of_answers: bool = False) -> Iterator[tuple[str, list[int]]]:
    """Gives the proxy's address, and a list that grows by the number of each connection that was cut."""
    cuts: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=_accept, args=(listener, port, after_bytes, of_answers, cuts))
        accepting.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", cuts
        listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        accepting.join()


def _accept(listener: socket.socket, port: int, after_bytes: int, of_answers: bool, cuts: list[int]) -> None:
    number, serving = 0, []
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            number += 1
            thread = threading.Thread(target=_serve, args=(client, port, after_bytes, of_answers, cuts, number))
            thread.start()
            serving.append(thread)
    for thread in serving:
        thread.join()


def _serve(client: socket.socket, port: int, limit: int, of_answers: bool, cuts: list[int], number: int) -> None:
    passed = 0
    with client, socket.create_connection(("127.0.0.1", port)) as server, suppress(OSError):
        while True:
            for source in select.select([client, server], [], [])[0]:
                data = source.recv(4096)
                if not data:
                    return
                (server if source is client else client).sendall(data)
                passed += len(data) if (source is server) == of_answers else 0
            if passed > limit:
                cuts.append(number)
                return
