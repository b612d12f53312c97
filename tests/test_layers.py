"""One direction of knowledge: cli -> pack -> codec -> engines, training, bench -> models, entropy, images -> ..."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gmvqzip

PACKAGE = Path(gmvqzip.__file__).parent
LEVELS = {
    "__main__": 8,
    "cli": 7,
    "pack": 6,
    "facade": 6,
    "pillow": 7,
    "codec": 5,
    "view": 5,
    "npz": 3,
    "inspection": 3,
    "rates": 3,
    "training": 3,
    "bench": 3,
    "engines": 3,
    "models": 2,
    "setting": 2,
    "entropy": 2,
    "images": 2,
    "quantizers": 1,
    "format": 1,
    "errors": 0,
    "blas": 1,
    "forks": 0,
    "memory": 0,
    "torchrun": 0,
    "threads": 0,
}
# Rooms of one level that know each other: a model file holds tables, and checks them; a run measures its model at work,
# as the bench does.
NEIGHBOURS = {("models", "entropy"), ("training", "engines"), ("training", "bench"), ("training", "rates")}
# What these rooms and files do without; a trailing dot stands for everything outside the standard library.
WITHOUT = {
    "format": {"torch", "numpy", "."},
    "errors.py": {"torch", "numpy", "."},
    "forks.py": {"torch", "numpy", "."},
    "threads.py": {"torch", "numpy", "."},
    "models/registry.py": {"torch", "numpy", "."},
    "models/config.py": {"torch", "numpy", "."},
    "models/hyperconfig.py": {"torch", "numpy", "."},
    "models/layers.py": {"torch", "numpy", "."},
    "models/kinds.py": {"torch", "numpy", "."},
    "models/cost.py": {"torch", "numpy", "."},
    "inspection.py": {"torch", "numpy", "."},
    "torchrun.py": {"torch", "numpy", "."},
    "pillow.py": {"torch", "numpy"},
    "rates.py": {"torch", "numpy", "."},
    "entropy": {"torch", "PIL"},
    "images": {"torch"},
    "setting.py": {"torch", "numpy", "."},
    "engines/files.py": {"torch", "PIL"},
    "npz.py": {"torch"},
    "pack/file.py": {"torch", "numpy", "."},
    "pack/appending.py": {"torch", "numpy", "."},
    "pack/reader.py": {"torch"},
    "pack/writer.py": {"torch"},
    "quantizers": {"PIL"},
    "bench": {"torch"},
    "view": {"torch"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """The modules that a file imports, and whether it does so as soon as it is imported itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late: set[ast.AST] = set()
    for node in ast.walk(tree):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        is_typing = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        if is_function or is_typing:
            late.update(ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield name, node not in late


def test_every_module_has_a_level() -> None:
    assert {room_of(path) for path in modules()} - {"__init__"} <= set(LEVELS)


def test_imports_go_down() -> None:
    wrong = []
    for path in modules():
        room = room_of(path)
        if room == "__init__":
            continue  # the public names, from every room, when they are asked for
        for name, _ in imports(path):
            parts = name.split(".")
            if parts[0] != "gmvqzip" or len(parts) < 2 or parts[1] not in LEVELS or parts[1] == room:
                continue
            if LEVELS[parts[1]] >= LEVELS[room] and (room, parts[1]) not in NEIGHBOURS:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not wrong, wrong


def test_no_two_modules_import_one_another() -> None:
    """By no way round, and not inside of functions either. `models.kinds` names what it imports by request: rows of
    a table, that no module needs to be imported itself."""
    known = {".".join(["gmvqzip", *path.relative_to(PACKAGE).with_suffix("").parts]): path for path in modules()}
    known = {name.removesuffix(".__init__"): path for name, path in known.items()}

    def module(name: str) -> str:
        return name if name in known else name.rpartition(".")[0]

    edges = {name: {module(other) for other, _ in imports(path)} & set(known) for name, path in known.items()}
    del edges["gmvqzip"]  # the public names, when they are asked for
    done: set[str] = set()
    while free := {name for name in edges if name not in done and edges[name] - {"gmvqzip", name} <= done}:
        done |= free
    left = set(edges) - done
    while ends := {name for name in left if not any(name in edges[other] for other in left)}:
        left -= ends  # these only lead to a circle
    assert not left, f"these import one another: {sorted(left)}"


def test_configurations_are_told_apart_by_kinds_alone() -> None:
    """Nowhere is a configuration's class asked for; the training's own checks of what it can train stay."""
    asking = {
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance"
        if {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
        & {"NetworkConfig", "HyperpriorConfig"}
    }
    assert all(path.startswith("training/") for path in asking), asking


def test_rooms_do_without() -> None:
    wrong = []
    for path in modules():
        inside = path.relative_to(PACKAGE).as_posix()
        for room, banned in WITHOUT.items():
            if inside != room and not inside.startswith(f"{room}/"):
                continue
            for name, _ in imports(path):
                top = name.split(".")[0]
                foreign = top not in sys.stdlib_module_names and top not in ("gmvqzip", "__future__")
                if top in banned or ("." in banned and foreign):
                    wrong.append(f"{inside} imports {name}")
    assert not wrong, wrong


def test_the_command_line_imports_heavy_modules_only_inside_commands() -> None:
    heavy = {"torch", "numpy", "PIL", "rich", "safetensors", "constriction"}
    light = [PACKAGE / "__init__.py", PACKAGE / "__main__.py", *sorted((PACKAGE / "cli").glob("*.py"))]
    wrong = [
        f"{path.name} imports {name}"
        for path in light
        for name, at_once in imports(path)
        if at_once and name.split(".")[0] in heavy
    ]
    assert not wrong, wrong


def test_files_stay_readable() -> None:
    long = {path.name: lines for path in modules() if (lines := len(path.read_text().splitlines())) > 400}
    assert not long, long


def test_functions_stay_readable() -> None:
    """The signature, which holds the options of a command, does not count."""
    long = {
        f"{path.name}: {node.name}": lines
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := (node.end_lineno or 0) - node.body[0].lineno + 1) > 60
    }
    assert not long, long


LIGHT = (
    ["--help"],
    ["--version"],
    ["info", "FILE"],
    ["info", "--json", "FILE"],
    ["list", "PACK"],
    ["list", "-v", "PACK"],
    ["models", "list"],
    ["models", "show", "MODEL"],
)
HEAVY = (
    "torch",
    "numpy",
    "PIL",
    "constriction",
    "safetensors",
    "asyncio",
    "multiprocessing",
    "gmvqzip.training.config",
)
LOADED = """
import json, sys
from gmvqzip.__main__ import main
commands, heavy = json.loads(sys.argv[1])
for command in commands:
    sys.argv = ["gmvqzip", *command]
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    else:
        code = 0
    print("END")
    print(json.dumps([code, [name for name in heavy if name in sys.modules]]), file=sys.stderr)
"""


def test_light_commands_load_neither_torch_nor_numpy(packed: Path, small_pack: Path, tiny_path: Path) -> None:
    """Which is why they start at once; scripts/measure/decoding.py tells how soon."""
    files = {"FILE": str(packed), "PACK": str(small_pack), "MODEL": str(tiny_path)}
    commands = [[files.get(part, part) for part in command] for command in LIGHT]
    done = subprocess.run(
        [sys.executable, "-c", LOADED, json.dumps([commands, HEAVY])],
        capture_output=True,
        env={**os.environ, "GMVQZIP_MODELS": str(tiny_path.parent)},
        check=True,
    )
    found = [json.loads(line) for line in done.stderr.splitlines() if line.startswith(b"[")]
    assert list(zip(LIGHT, found, strict=True)) == [(command, [0, []]) for command in LIGHT]
    shown = done.stdout.split(b"END\n")
    assert len(shown) == len(LIGHT) + 1 and all(shown[:-1])


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = "import gmvqzip, sys; gmvqzip.GmvqError; print(sorted({'torch', 'numpy', 'typer'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise() -> None:
    script = "import os, gmvqzip.codec; print(os.environ['OMP_WAIT_POLICY'])"
    kept = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    for given, wanted in (({}, b"PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, b"ACTIVE")):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, env=kept | given)
        assert done.stdout.strip() == wanted
