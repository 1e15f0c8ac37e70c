"""A Python that has loaded the command, and forks for each run of it: loading is most of what a short run takes.

Each run is a process of its own, with its own arguments, folder, environment and streams, that ends as Python ends but
for the last: it does not take to pieces what was loaded, which would take longer than the run.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
import tempfile


class Warm:
    """The server of one test process."""

    def __init__(self):
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        command = [sys.executable, __file__, str(requests), str(answers)]
        self._server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, pass_fds=(requests, answers), start_new_session=True
        )
        os.close(requests)
        os.close(answers)

    def run(self, args, cwd, timeout):
        """Run `lucid-pool` with nothing on standard input."""
        with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
            streams = [out.name, err.name]
            request = {"args": args, "cwd": str(cwd), "environment": dict(os.environ), "streams": streams}
            os.write(self._requests, json.dumps(request).encode() + b"\n")
            if not select.select([self._answers], [], [], timeout)[0]:
                self.close()
                raise subprocess.TimeoutExpired(args, timeout)
            status = int(os.read(self._answers, 100) or b"-9")
            return subprocess.CompletedProcess(args, status, out.read().decode(), err.read().decode())

    def close(self):
        os.close(self._requests)
        os.close(self._answers)
        os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()


def _load():
    """Load what a run may load, but for what takes as long as all else together."""
    import lucid
    import lucid_cli

    for package in (lucid, lucid_cli):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not module.name.startswith(
                ("lucid.formats.zarr", "lucid.run.dask", "lucid.dask", "lucid_cli.completion")
            ):
                importlib.import_module(module.name)
    gc.freeze()


def _requested(requests, answers):
    """The next request, in a process of its own."""
    with open(requests) as lines:
        for line in lines:
            child = os.fork()
            if child == 0:
                os.close(answers)
                return json.loads(line)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            os.write(answers, str(status).encode())
    sys.exit()


if __name__ == "__main__":
    status = 1
    atexit.register(lambda: os._exit(status))  # the first registered is the last called
    _load()
    request = _requested(*map(int, sys.argv[1:]))
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for stream, path in enumerate(request["streams"], 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), stream)
    sys.argv = ["lucid-pool", *request["args"]]
    from lucid_cli.__main__ import main

    try:
        main()
    except SystemExit as end:
        status = end.code
        raise
