"""Fuzz the container, packs, the coder, the codec and the model loader.

python scripts/fuzz.py --minutes 30                     all targets, one after the other, in equal shares of the time
python scripts/fuzz.py codec pack --minutes 5           two of them
python scripts/fuzz.py --replay findings/codec-*        run kept files again

tests/fuzz/targets.py says what an input may end in. Anything else, more than 5 seconds, or more than 1 GiB of memory
is a finding: its file is kept in --findings, once for each place in the code. With atheris (`pip install '.[fuzz]'`)
coverage guides the changes; without it they are drawn blindly. Inputs start from the golden files.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

SECONDS = 5.0  # of the processor, for one input
PATIENCE = 12  # times as long by the clock: on a busy machine an input may wait, but not for ever
MEMORY = 1 << 30  # bytes of address space for one input, beyond what the models take
MAX_INPUT = 1 << 20  # bytes
_NOTED_EVERY = 1.0  # seconds between two notes of the numbers
_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 65535, 65536, 1 << 20, 1 << 21, 1 << 24, (1 << 31) - 1, 1 << 31, 1 << 63)
_LAZY = ("gmvqzip.engines.hyperprior", "gmvqzip.engines.staged", "gmvqzip.entropy.runs", "gmvqzip.models.hyperstore")
_ROOT = Path(__file__).resolve().parent.parent


class Hang(BaseException):
    """An input that took too long. Not an Exception: nothing that is tested may catch it."""


class Trial:
    """Runs inputs of one target, and keeps what is found."""

    def __init__(self, name: str, target: Any, folder: Path) -> None:
        self.name, self.target, self.folder = name, target, folder
        self.runs, self.slowest, self.found = 0, 0.0, dict[str, str]()
        self._start = self._noted = time.monotonic()
        catch_hangs()

    def run(self, data: bytes) -> None:
        """One input, or rather the file that is made of it."""
        self.runs += 1
        kept, start, error = data, time.process_time(), None
        try:
            kept = self.target.seal(data)
            with time_limit(SECONDS):
                start = time.process_time()
                self.target.run_file(kept)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as caught:
            error = caught
        taken = time.process_time() - start
        self.slowest = max(self.slowest, taken)
        if error is None and taken > SECONDS:
            error = Hang(f"{taken:.1f} s")  # in compiled code, where no signal is looked at
        if error is not None:
            self._keep(kept, error)
        if time.monotonic() - self._noted > _NOTED_EVERY:
            self.note()

    def note(self) -> None:
        """Write down the numbers so far; atheris ends the process without a word."""
        self._noted = time.monotonic()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        numbers = {
            "runs": self.runs,
            "seconds": round(self._noted - self._start, 1),
            "slowest_s": round(self.slowest, 3),
            "peak_mib": peak,
            "findings": self.found,
        }
        (self.folder / f"{self.name}.json").write_text(json.dumps(numbers))

    def _keep(self, data: bytes, error: BaseException) -> None:
        frames = [
            f
            for f in traceback.extract_tb(error.__traceback__)
            if f.filename.startswith(str(_ROOT)) and f.name != "hang"
        ]
        place = f"{Path(frames[-1].filename).stem}-{frames[-1].lineno}" if frames else "nowhere"
        key = f"{self.name}-{type(error).__name__}-{place}"
        if key in self.found:
            return
        self.found[key] = f"{type(error).__name__}: {error}"[:200]
        (self.folder / key).write_bytes(data)
        lines = traceback.format_exception(error)
        (self.folder / f"{key}.txt").write_text("".join(lines), errors="replace")
        self.note()


def catch_hangs() -> None:
    """Let the signals of `time_limit` raise Hang."""

    def hang(*_: object) -> None:
        raise Hang("too long")

    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, hang)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise Hang in the block after so many seconds of the processor, or PATIENCE times as many by the clock."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def limit_memory() -> None:
    """Let this process take MEMORY more than it has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    size = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def mutated(data: bytes, other: bytes, generator: random.Random) -> bytes:
    """`data` after a few small changes; `other` is a second input to take pieces from."""
    changed = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 3, 8))):
        at = generator.randrange(len(changed) + 1)
        size = generator.choice((1, 1, 2, 4, 16, len(changed) // 2 + 1))
        kind = generator.randrange(7)
        if kind == 0:
            changed[at : at + 1] = bytes([generator.randrange(256)])
        elif kind == 1:
            changed[at : at + 1] = bytes(b ^ 1 << generator.randrange(8) for b in changed[at : at + 1])
        elif kind == 2:
            del changed[at : at + size]
        elif kind == 3:
            changed[at:at] = generator.randbytes(size) if size <= 16 else changed[at : at + size]
        elif kind == 4:
            start = generator.randrange(len(other) + 1)
            changed[at : at + size] = other[start : start + size]
        elif kind == 5:
            width = generator.choice((1, 2, 4, 8))
            number = generator.choice(_NUMBERS) & ((1 << 8 * width) - 1)
            changed[at : at + width] = number.to_bytes(width, generator.choice(("big", "little")))
        elif digits := list(re.finditer(rb"\d+", changed)):
            chosen = generator.choice(digits)
            changed[chosen.start() : chosen.end()] = str(generator.choice(_NUMBERS)).encode()
    return bytes(changed[:MAX_INPUT])


def fuzz_plainly(trial: Trial, seeds: list[bytes], seconds: float, seed: int) -> None:
    """Blind changes of the seeds."""
    generator = random.Random(seed)
    end = time.monotonic() + seconds
    for data in seeds:
        trial.run(data)
    while time.monotonic() < end:
        trial.run(mutated(generator.choice(seeds), generator.choice(seeds), generator))
    trial.note()


def fuzz_guided(trial: Trial, seeds: list[bytes], seconds: float, seed: int) -> None:
    """Changes guided by coverage, half of them our own; ends the process."""
    import atheris

    corpus = trial.folder / "corpus" / trial.name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(data)

    def mutate(data: bytes, most: int, number: int) -> bytes:
        generator = random.Random(number)
        if generator.random() < 0.5:
            return bytes(atheris.Mutate(data, most))
        return mutated(data, generator.choice(seeds), generator)[:most]

    options = [f"-max_total_time={seconds:.0f}", f"-seed={seed}", f"-max_len={MAX_INPUT}"]
    options += ["-timeout=0", "-rss_limit_mb=0", "-print_final_stats=0", f"-artifact_prefix={trial.folder}/crash-"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], trial.run, custom_mutator=mutate)
    atheris.Fuzz()


def fuzz_one(name: str, arguments: argparse.Namespace) -> None:
    """Fuzz one target in this process."""
    sys.path.insert(0, str(_ROOT / "tests" / "fuzz"))
    guided = arguments.engine == "atheris"
    if guided:
        import atheris
    with atheris.instrument_imports(include=["gmvqzip"]) if guided else nullcontext():
        import targets

        for module in _LAZY:
            import_module(module)
    target = targets.TARGETS[name]
    seeds = target.seeds()
    for data in seeds:  # models are loaded now, and do not count as an input's memory
        target.attempt(data)
    limit_memory()
    trial = Trial(name, target, arguments.findings)
    (fuzz_guided if guided else fuzz_plainly)(trial, seeds, arguments.minutes * 60, arguments.seed)


def replay(paths: list[Path], pixels: int | None, seconds: float) -> int:
    """Run kept files, whose names start with their target, each within so many seconds; 0: without an end."""
    sys.path.insert(0, str(_ROOT / "tests" / "fuzz"))
    import targets

    if pixels is not None:
        targets.PICTURE_PIXELS = targets.CODE_PIXELS = pixels
    for codec in (*targets.tiny_models(), *targets.shipped_models()):
        codec.decompress_picture(targets.declared(codec, 1, 1))
    limit_memory()
    catch_hangs()
    failed = 0
    for path in paths:
        start = time.process_time()
        try:
            with time_limit(seconds):
                targets.TARGETS[path.name.partition("-")[0]].run_file(path.read_bytes())
            said = "fine"
        except BaseException as error:
            failed, said = 1, f"{type(error).__name__}: {error}"
        print(f"{path.name}: {said} ({time.process_time() - start:.2f} s)")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="*", help="all unless named")
    parser.add_argument("--minutes", type=float, default=30.0, help="in all")
    parser.add_argument("--engine", choices=["auto", "atheris", "plain"], default="auto")
    parser.add_argument("--findings", type=Path, default=Path("findings"), help="folder for findings and corpora")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", nargs="+", type=Path, help="files to run again")
    parser.add_argument("--pixels", type=int, help="largest picture that is decoded when files are run again")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for a file that is run again; 0: no limit")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.replay:
        return replay(arguments.replay, arguments.pixels, arguments.seconds)
    if arguments.child:
        fuzz_one(arguments.target[0], arguments)
        return 0
    if arguments.engine == "auto":
        arguments.engine = "atheris" if _has_atheris() else "plain"
    names = arguments.target or _names()
    arguments.findings.mkdir(parents=True, exist_ok=True)
    total = 0
    for name in names:
        command = [sys.executable, __file__, name, "--child", "--engine", arguments.engine]
        command += ["--minutes", str(arguments.minutes / len(names)), "--seed", str(arguments.seed)]
        command += ["--findings", str(arguments.findings)]
        log = arguments.findings / f"{name}.log"
        with log.open("wb") as file:
            done = subprocess.run(command, stdout=file, stderr=file, check=False)
        total += _report(name, arguments.findings, log.read_text(errors="replace"), done.returncode)
    return 1 if total else 0


def _report(name: str, folder: Path, log: str, code: int) -> int:
    """Print the numbers of one target; returns how many findings there are."""
    noted = folder / f"{name}.json"
    if not noted.exists():
        print(f"{name}: did not start, see {folder / name}.log")
        return 1
    numbers = json.loads(noted.read_text())
    covered = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", log)
    coverage = "coverage {} edges, {} features, {} inputs kept".format(*covered[-1]) if covered else "coverage unknown"
    print(
        f"{name}: {numbers['runs']} inputs in {numbers['seconds']:.0f} s, {coverage}; "
        f"slowest {numbers['slowest_s']} s, peak {numbers['peak_mib']} MiB, {len(numbers['findings'])} findings",
        flush=True,
    )
    for key, said in numbers["findings"].items():
        print(f"  {key}: {said}")
    if code:
        print(f"  the process ended with {code}: see {folder / name}.log")
    return len(numbers["findings"]) + (code != 0)


def _names() -> list[str]:
    sys.path.insert(0, str(_ROOT / "tests" / "fuzz"))
    import targets

    return list(targets.TARGETS)


def _has_atheris() -> bool:
    try:
        import atheris  # noqa: F401
    except ImportError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
