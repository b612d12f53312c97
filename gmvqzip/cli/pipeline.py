"""Many files at once: some are read while others are worked on, together, and others are written."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar

from gmvqzip.cli.batch import finish
from gmvqzip.cli.plan import Task
from gmvqzip.cli.records import Fields
from gmvqzip.cli.report import Report

RESUME = "run it again with --skip-existing to go on"
_BATCH = 64  # files that are worked on together, at most
_WRITERS = 16  # files that are synced at once: a disk takes many syncs in the time of one

Item = TypeVar("Item")
Product = TypeVar("Product")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Steps(Generic[Item, Product, Result]):
    """What is done to files: `read` one, `work` on several together, `write` what came of one.

    pixels: of an item; most_pixels: of a batch of items, which is complete once it has them. Where `work` fails on
    several items, each is tried alone.
    """

    read: Callable[[Task], Item]
    pixels: Callable[[Item], int]
    most_pixels: int
    work: Callable[[Sequence[Item]], Sequence[Product]]
    write: Callable[[Task, Product], Result]

    def one(self, task: Task) -> Result:
        """All steps of one file."""
        (product,) = self.work([self.read(task)])
        return self.write(task, product)


def run_steps(
    tasks: Sequence[Task],
    steps: Steps[Item, Product, Fields],
    show: Callable[[Fields], None],
    report: Report,
    *,
    jobs: int,
    what: str,
    in_thread: Callable[[], None] = lambda: None,
    resume: str = RESUME,
) -> None:
    """Take each task through the steps, and `show` its result in the order of the tasks.

    jobs, in_thread: as for `results`. resume: how to go on after an interruption. The errors of a file are reported and
    counted; a closed pipe or a signal ends the whole. What is written is counted at once, shown before or not.
    """

    def write(task: Task, product: Product) -> Fields:
        fields = steps.write(task, product)
        report.count(fields)
        return fields

    counted = replace(steps, write=write)
    with report.progress(len(tasks), what, resume) as advance, results(tasks, counted, jobs, in_thread) as found:
        for task, result in zip(tasks, found, strict=True):
            finish(task, result, show, report)
            advance()


def run_tasks(
    tasks: Sequence[Task],
    work: Callable[[Task], Fields],
    show: Callable[[Fields], None],
    report: Report,
    *,
    jobs: int = 1,
    what: str,
    in_thread: Callable[[], None] = lambda: None,
) -> None:
    """As `run_steps`, where there is one step."""
    steps = Steps[Task, Fields, Fields](
        lambda task: task, lambda _: 1, 1, lambda batch: [work(task) for task in batch], lambda _, fields: fields
    )
    run_steps(tasks, steps, show, report, jobs=jobs, what=what, in_thread=in_thread, resume="")


@contextmanager
def results(
    tasks: Sequence[Task], steps: Steps[Item, Product, Result], jobs: int, in_thread: Callable[[], None]
) -> Iterator[Iterator[Callable[[], Result]]]:
    """Yield, for each task in order, what gives the result of its steps, which nobody else keeps, or raises its error.

    jobs: batches that are worked on at once; another one is read meanwhile, so that the items of jobs + 1 batches are
    held at most. in_thread: called first in each thread that works. What is not written when the block ends stays
    undone.
    """
    if len(tasks) < 2 or not all(task.source is not None and task.source.is_file() for task in tasks):
        in_thread()
        yield (partial(steps.one, task) for task in tasks)  # in this thread, where a signal ends the wait for a pipe
    else:
        with _Pipeline(tasks, steps, jobs).running(in_thread) as futures:
            yield (futures.popleft().result for _ in tasks)


class _Pipeline(Generic[Item, Product, Result]):
    def __init__(self, tasks: Sequence[Task], steps: Steps[Item, Product, Result], jobs: int) -> None:
        self._steps = steps
        self._futures: deque[Future[Result]] = deque(Future() for _ in tasks)
        self._queue = deque(zip(tasks, self._futures, strict=True))
        self._workers = min(jobs + 1, len(tasks))
        self._working = threading.Semaphore(jobs)
        self._taking = threading.Lock()
        self._stopped = threading.Event()

    @contextmanager
    def running(self, in_thread: Callable[[], None]) -> Iterator[deque[Future[Result]]]:
        """Yield the results to come, one for each task."""
        with ThreadPoolExecutor(_WRITERS) as writers, ThreadPoolExecutor(self._workers, initializer=in_thread) as pool:
            try:
                for _ in range(self._workers):
                    pool.submit(self._run, writers)
                yield self._futures
            finally:
                self._stopped.set()

    def _run(self, writers: ThreadPoolExecutor) -> None:
        """What a worker does: batch after batch, until there is none."""
        before: list[Future[None]] = []
        while batch := self._take():
            try:
                if self._stopped.is_set():
                    return
                products = self._work([item for _, _, item in batch])
            finally:
                self._working.release()
            wait(before)
            before = [
                writers.submit(self._write, task, future, product)
                for (task, future, _), product in zip(batch, products, strict=True)
            ]

    def _take(self) -> list[tuple[Task, Future[Result], Item]]:
        """The next files, read, once they may be worked on; the future of one that cannot be read has the reason.

        One worker at a time: which files go together never depends on how fast the others are, and no batch has to
        wait for a later one, as it might if workers held theirs and strove for their turns.
        """
        batch: list[tuple[Task, Future[Result], Item]] = []
        pixels = 0
        with self._taking:
            while self._queue and len(batch) < _BATCH and pixels < self._steps.most_pixels:
                if self._stopped.is_set():
                    break
                task, future = self._queue.popleft()
                try:
                    item = self._steps.read(task)
                    pixels += self._steps.pixels(item)
                except Exception as error:
                    future.set_exception(error)
                else:
                    batch.append((task, future, item))
            if batch:
                self._working.acquire()
        return batch

    def _work(self, items: Sequence[Item]) -> Sequence[Product | Exception]:
        """The product of each item, or why there is none: one of them may be to blame for the failure of all."""
        try:
            return self._steps.work(items)
        except Exception as error:
            return [error] if len(items) == 1 else [self._work([item])[0] for item in items]

    def _write(self, task: Task, future: Future[Result], product: Product | Exception) -> None:
        if self._stopped.is_set():
            return
        try:
            if isinstance(product, Exception):
                raise product
            future.set_result(self._steps.write(task, product))
        except Exception as error:
            future.set_exception(error)
