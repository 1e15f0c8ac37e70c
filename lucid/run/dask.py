"""Work done by the workers of a Dask cluster, which find all files under the paths that they have here.

Needs the extra `dask`.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from multiprocessing import resource_tracker
from queue import Empty, SimpleQueue
from typing import Any

from lucid.errors import FileError, LucidError, MissingExtraError
from lucid.threads import Item, Result, thread_count

try:
    import distributed
except ImportError as error:
    raise MissingExtraError("--dask needs the extra 'dask': pip install 'lucid-pool[dask]'") from error

#: How often a call is tried again on another worker.
RETRIES = 3
#: The address that stands for a cluster on this machine, of one process for each CPU.
LOCAL = "local"
#: Seconds between signs of life while nothing is done.
WAIT_SECONDS = 5.0
#: HDF5 lets one thread of a process in at a time: a call waits until the one before it is done.
_CALL_LOCK = threading.Lock()


class Dask:
    """A cluster: by its scheduler's address, or by a client that is connected."""

    def __init__(self, cluster: "str | distributed.Client") -> None:
        self._cluster = cluster
        self.threads: int | None = None

    def run(
        self, work: Callable[[Item, int], Result], items: Sequence[Item], wait: Callable[[], None], /
    ) -> Iterator[Result]:
        """Have all calls done; whatever ends this before leaves none of them running."""
        completed: SimpleQueue[Any] = SimpleQueue()
        pending: dict[Any, int] = {}
        with self.client() as client:
            self.threads = sum(client.nthreads().values()) or None
            try:
                for i, item in enumerate(items):
                    # Every call has a key of its own, so what failed in another run is tried anew.
                    future = client.submit(partial(_call_on_worker, work), item, retries=RETRIES, pure=False)
                    pending[future] = i
                    future.add_done_callback(completed.put)
                while pending:
                    try:
                        future = completed.get(timeout=WAIT_SECONDS)
                    except Empty:
                        wait()
                        continue
                    # A result that is held would be computed again if its worker went away.
                    number = pending.pop(future)
                    yield _result(future, number + 1, len(items))
                    future.release()
            finally:
                with suppress(Exception):  # the cluster itself may be gone
                    client.cancel(list(pending), force=True)

    def client(self) -> "AbstractContextManager[distributed.Client]":
        """A client of the cluster, for as long as it is used; a FileError where no scheduler answers."""
        if not isinstance(self._cluster, str):
            return nullcontext(self._cluster)
        try:
            # A client that was never under way waits for itself when it is let go of.
            distributed.comm.resolve_address(self._cluster)
            client: AbstractContextManager[distributed.Client] = distributed.Client(
                self._cluster, timeout="10s", set_as_default=False
            )
        except (OSError, ValueError, TimeoutError) as error:
            raise FileError(
                f"no Dask scheduler answers at {self._cluster}; expected an address such as tcp://HOST:8786"
            ) from error
        return client


@contextmanager
def connect(address: str, *, workers: int | None = None) -> Iterator[Dask]:
    """The cluster at an address, or one of processes made here for as long as it is used."""
    if address != LOCAL:
        cluster = Dask(address)
        with cluster.client():
            pass
        yield cluster
        return
    with ExitStack() as stack:
        with _ignore_interrupts():
            local = distributed.LocalCluster(
                n_workers=thread_count(workers),
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # of what HTTP server remains
                memory_limit=None,  # the blocks of `max_memory` are all there is
                silence_logs=100,
            )
            stack.enter_context(local)
        yield Dask(local.scheduler_address)


@contextmanager
def _ignore_interrupts() -> Iterator[None]:
    """Let processes that are started now ignore Ctrl-C: it is for the one that starts them, which hears it then."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    resource_tracker.ensure_running()  # which unblocks signals in the thread that first needs it
    # A signal that all threads block waits, though it is to be ignored; those that begin now block it, too.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _result(future: Any, number: int, count: int) -> Any:
    try:
        return future.result()
    except LucidError:
        raise
    except distributed.KilledWorker as error:
        raise FileError(f"span {number} of {count} ended every worker that tried it") from error
    except Exception as error:  # such as a worker without this package, or a scheduler that ended
        words = " ".join(f"{type(error).__name__} {error}".split())
        raise FileError(f"the Dask cluster gave up span {number} of {count}: {words[:300]}") from error


def _call_on_worker(work: Callable[[Item, int], Result], item: Item) -> Result:
    """Do it on a worker, one call at a time."""
    threads = distributed.get_worker().state.nthreads
    with _CALL_LOCK:
        return work(item, threads)
