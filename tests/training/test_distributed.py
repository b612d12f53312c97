"""Training by several processes: the losses of one, one writer, other numbers of processes, and one that dies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from rank_runs import CONFIGS, ORDER, RIVALS, finish, log_of, run, start
from tiny_runs import SIDE, pictures

from gmvqzip.errors import TrainingError
from gmvqzip.models.registry import read_info
from gmvqzip.models.store import verify
from gmvqzip.quantizers import ranks
from gmvqzip.torchrun import Place, place
from gmvqzip.training import distributed
from gmvqzip.training.splits import memory_budget

LOSS, OTHERS = 1e-5, 1e-3  # relative differences; entropies near zero are small differences of large numbers


def compare(folder: Path, names: Sequence[str]) -> None:
    """The logs of two processes in `folder`/two/0 beside those of one in `folder`/one."""
    for name in names:
        together, alone = log_of(folder / "two/0", name), log_of(folder / "one", name)
        assert len(together) == len(alone) == CONFIGS[name].steps
        for line, expected in zip(together, alone, strict=True):
            assert line["loss"] == pytest.approx(expected["loss"], rel=LOSS), (name, line["step"])
            assert line.keys() == expected.keys()
            for field, value in expected.items():
                if isinstance(value, str):
                    assert line[field] == value
                else:
                    assert line[field] == pytest.approx(value, rel=OTHERS, abs=1e-6), (name, line["step"], field)


def by_two(folder: Path, names: Sequence[str]) -> None:
    assert finish(start(folder / "two", names)) == [(0, "")] * 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs by two processes, of which the first goes on in one, beside the same runs by one."""
    folder = tmp_path_factory.mktemp("ranks")
    by_two(folder, ["entropy:22", "hyperprior"])
    run(folder / "two/0", "entropy")
    for name in ("entropy", "hyperprior"):
        run(folder / "one", name)
    return folder


class TestTwoProcesses:
    def test_the_entropy_term_is_that_of_the_whole_batch(self, trained: Path) -> None:
        """20 steps and more by two processes, the rest by one that resumes from their checkpoint."""
        compare(trained, ["entropy"])

    def test_a_hyperprior_in_all_its_phases(self, trained: Path) -> None:
        compare(trained, ["hyperprior"])

    def test_rank_0_alone_writes(self, trained: Path) -> None:
        assert not (trained / "two/1").exists()
        verify(read_info(trained / "two/0/hyperprior/tiny.safetensors"))
        names = [{path.name for path in (trained / side / "hyperprior/run").iterdir()} for side in ("two/0", "one")]
        assert names[0] == names[1]

    def test_the_first_of_a_machine_goes_before_the_others(self, trained: Path) -> None:
        assert (trained / "two" / ORDER).read_text() == "01"

    @pytest.mark.slow
    def test_other_methods_and_going_on_with_more_processes(self, tmp_path: Path) -> None:
        """Rank 1 finds no checkpoint of its own: rank 0 reads it for both."""
        run(tmp_path / "two/0", "rated:12")
        by_two(tmp_path, ["rated", *RIVALS])
        for name in ("rated", *RIVALS):
            run(tmp_path / "one", name)
        compare(tmp_path, ["rated", *RIVALS])

    @pytest.mark.slow
    def test_a_process_that_is_killed_ends_the_other(self, tmp_path: Path) -> None:
        processes = start(tmp_path, ["endless"])
        try:
            wait_for(tmp_path / "0/endless/run/log.jsonl", processes)
        finally:
            processes[1].kill()
        (code, error), _ = finish(processes)
        assert code == 1, error
        assert error.startswith("TrainingError: another process of this run has ended: ")

    @pytest.mark.slow
    def test_a_batch_that_cannot_be_shared(self, tmp_path: Path) -> None:
        for code, error in finish(start(tmp_path, ["odd"])):
            assert code == 1, error
            assert "2 processes cannot share a batch of 5: --batch-size must be a multiple" in error


def wait_for(log: Path, processes: Sequence[subprocess.Popen[str]]) -> None:
    """Until the log has some steps."""
    while not (log.exists() and len(log.read_text().splitlines()) > 3):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.1)


class TestAlone:
    def test_nothing_is_exchanged(self) -> None:
        values = torch.randn(4, 3, requires_grad=True)
        with ranks.shared_batch():
            assert ranks.world() == 1
            assert ranks.share(6) == slice(0, 6)
            assert ranks.mean(values) is values
            assert ranks.total(values) is values
            assert ranks.gathered(values) is values
        assert distributed.agree(3.5, True, torch.device("cpu")) == (3.5, True)
        assert distributed.writes()

    def test_a_process_without_torchrun_s_variables_joins_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RANK", raising=False)
        assert place() == Place()
        with distributed.joined("cpu") as device:
            assert device == torch.device("cpu")
            assert not torch.distributed.is_initialized()

    def test_torchrun_s_variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}.items():
            monkeypatch.setenv(name, value)
        assert place() == Place(5, 8, 1, 4)
        monkeypatch.setenv("RANK", "8")
        assert place() == Place()

    def test_processes_of_one_machine_share_its_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = memory_budget()
        for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}.items():
            monkeypatch.setenv(name, value)
        assert memory_budget() == whole // 4

    def test_who_cannot_be_reached_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "x"}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(TrainingError, match="cannot join the other processes"), distributed.joined("cpu"):
            pass


@pytest.mark.slow
class TestCommandLine:
    COMMAND = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "gmvqzip", "train")

    def command(self, folder: Path, *more: str) -> list[str]:
        data = folder / "data"
        if not data.exists():
            data.mkdir()
            for number, pixels in enumerate(pictures(12, side=4 * SIDE)):
                Image.fromarray(pixels).save(data / f"{number}.png")
        settings = folder / "tiny.toml"
        settings.write_text('preset = "small"\nopen_steps = 3\nevaluate_images = 2\n')
        options = ("--dataset", "folder", "--data", data, "--config", settings, "--out", folder / "x.safetensors")
        return [sys.executable, *self.COMMAND, *map(str, options), "--run-dir", str(folder / "run"), *more]

    def test_a_run(self, tmp_path: Path) -> None:
        done = subprocess.run(self.command(tmp_path, "--steps", "8"), capture_output=True, text=True, check=True)
        assert done.stdout == ""
        assert done.stderr.count("wrote ") == done.stderr.count("folder") == 1
        verify(read_info(tmp_path / "x.safetensors"))
        lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if line["kind"] == "step"] == list(range(1, 9))

    def test_a_signal_to_one_process_stops_all(self, tmp_path: Path) -> None:
        """At the same step, with a checkpoint, although rank 0 has not heard of it."""
        show = "import os; os.write(1, (os.environ['RANK'] + f' {os.getpid()}\\n').encode()); "
        script = tmp_path / "show.py"
        script.write_text(show + "from gmvqzip.__main__ import main; main()\n")
        command = self.command(tmp_path, "--time", "1h")
        place = command.index("gmvqzip")
        command[place - 1 : place + 1] = [str(script)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, **pipes, text=True, start_new_session=True)
        try:
            assert process.stdout is not None
            numbers = dict(process.stdout.readline().split() for _ in range(2))
            wait_for(tmp_path / "run/log.jsonl", [process])
            os.kill(int(numbers["1"]), signal.SIGTERM)
            process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            error = process.communicate()[1]
        assert error.count("stopped; a checkpoint is saved") == 1
        assert list((tmp_path / "run").glob("checkpoint-*.pt"))
