"""The database server under test, to be killed, stopped and cut off."""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import threading
import time

import datajoint as dj
import psutil

from workers.database import embedded


class Server:
    """The server that DJ_PORT names on this machine, or the embedded one of a home."""

    def __init__(self, home):
        self.home = home
        self._command = None
        self._child = None

    def kill(self):
        """SIGKILL every process of the server."""
        main = self._main()
        self._command = main.cmdline()
        for process in [main, *main.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self._child is not None:
            self._child.wait()
            self._child = None
        psutil.wait_procs([main], timeout=10)

    def start(self):
        """Start it again as it was; return once it answers."""
        if embedded.is_embedded():
            embedded.start(self.home)
            return
        log = subprocess.DEVNULL
        self._child = subprocess.Popen(
            self._command, stdout=log, stderr=log, stdin=log, start_new_session=True
        )
        deadline = time.monotonic() + 60
        while not _answers(dj.config.database.port):
            assert time.monotonic() < deadline, "the database server does not come back"
            time.sleep(0.1)

    @contextlib.contextmanager
    def paused(self):
        """Stop every process of the server for a while; connections stay open."""
        main = self._main()
        processes = [main, *main.children(recursive=True)]
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in reversed(processes):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)

    def _main(self):
        if embedded.is_embedded():
            return psutil.Process(embedded.status(self.home)["pid"])
        port = int(dj.config.database.port)
        for process in psutil.process_iter(["pid"]):
            with contextlib.suppress(psutil.Error):
                for link in process.net_connections("tcp"):
                    if link.status == psutil.CONN_LISTEN and link.laddr.port == port:
                        return process
        raise LookupError(f"no process of this machine listens on port {port}")


def is_ours():
    """Tell whether the server may be killed: nobody else uses it during this test."""
    if not os.environ.get("DJ_HOST"):
        return True
    local = os.environ["DJ_HOST"] in ("127.0.0.1", "localhost")
    return local and "PYTEST_XDIST_WORKER" not in os.environ


def _answers(port):
    try:
        with socket.create_connection(("127.0.0.1", int(port)), timeout=2) as link:
            return bool(link.recv(1))  # MySQL greets first
    except OSError:
        return False


class Network:
    """A wire between a worker and the server that can be cut: a TCP proxy of our own.

    While it is cut, nothing passes and nothing is refused, as with a pulled cable; when it is
    mended, the connections of before are gone.
    """

    def __init__(self, host, port):
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._whole = threading.Event()
        self._whole.set()
        self._closed = False
        self._pairs = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """Let nothing through from now on."""
        self._whole.clear()

    def mend(self):
        """Reset what was open and let new connections through."""
        for pair in list(self._pairs):
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._whole.set()

    def close(self):
        """End the proxy and everything through it."""
        self._closed = True
        self._listener.close()
        self.mend()

    def _accept(self):
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near):
        self._whole.wait()
        try:
            far = socket.create_connection(self._target)
        except OSError:
            near.close()
            return
        pair = (near, far)
        self._pairs.add(pair)
        with selectors.DefaultSelector() as watch, contextlib.suppress(OSError):
            watch.register(near, selectors.EVENT_READ, far)
            watch.register(far, selectors.EVENT_READ, near)
            open_ = True
            while open_:
                for ready, _ in watch.select():
                    self._whole.wait()
                    data = ready.fileobj.recv(65536)
                    open_ = open_ and bool(data)
                    ready.data.sendall(data)
        for end in pair:
            end.close()
        self._pairs.discard(pair)
