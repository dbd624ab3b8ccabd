"""The house rules that no type can hold: who imports whom, where the clock, the SQL and the C2PA library live."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ORDER = ("ledger", "safety", "generator", "gateway")
"""Each may import itself and what stands before it."""
MODULES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(), str(path))
    for package in ORDER
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports(tree: ast.AST) -> Iterator[str]:
    """Every name imported, in full, wherever in the module it is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def attributes(tree: ast.AST) -> Iterator[str]:
    """`owner.attribute` for each attribute taken, the owner by the last part of its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            yield f"{name}.{node.attr}"


def importers(library: str) -> set[str]:
    return {
        module
        for module, tree in MODULES.items()
        if any(name.partition(".")[0] == library for name in imports(tree))
    }


def test_imports_run_one_way() -> None:
    for module, tree in MODULES.items():
        below = ORDER[: ORDER.index(module.partition("/")[0]) + 1]
        for name in imports(tree):
            package = name.partition(".")[0]
            assert package not in ORDER or package in below, f"{module} imports {name}"
            assert package != "tests", f"{module} imports {name}"


@pytest.mark.parametrize(
    ("library", "home"),
    [
        ("c2pa", {"ledger/provenance/manifest.py"}),
        ("cedarpy", {"safety/policy/cedar.py"}),
        ("dbos", {"generator/pipeline.py"}),
        ("face_recognition", {"safety/faces.py"}),
        ("open_clip", {"safety/zeroshot.py"}),
        ("rapidocr", {"safety/writing.py"}),
        ("obstore", {"ledger/store/objects.py"}),
        ("alembic", {"ledger/store/database.py"}),
        ("av", {"ledger/provenance/media.py", "generator/reference/film.py"}),
    ],
)
def test_a_foreign_library_is_known_to_one_module(library: str, home: set[str]) -> None:
    found = importers(library)
    assert found
    assert found <= home


def test_only_the_gateway_knows_the_web() -> None:
    assert all(module.startswith("gateway/") for module in importers("litestar") | importers("granian"))


def test_sql_lives_in_the_store() -> None:
    for module, tree in MODULES.items():
        if module.startswith("ledger/store/"):
            continue
        foreign = {
            name for name in imports(tree) if name.partition(".")[0] in {"sqlmodel", "sqlalchemy", "sqlite3"}
        }
        assert not foreign, module
        assert not any(name.startswith("ledger.store.tables") for name in imports(tree)), module
        # A transaction's session is the store's own: through it anyone could write what is in no entry. The
        # sequencer sets savepoints with it, and asks it nothing.
        used = {name for name in attributes(tree) if name.startswith("session.")}
        savepoints = {"session.begin_nested", "session.flush", "session.expire_all"}
        assert used <= (savepoints if module == "ledger/log/sequencer.py" else set()), module
        taken = sum(name.endswith(".session") for name in attributes(tree))
        assert taken == (len(savepoints) if module == "ledger/log/sequencer.py" else 0), module


def test_the_clock_is_read_in_the_gateway_only() -> None:
    # Whatever the class is called here: nothing else of ours has a method of these names.
    clocks = re.compile(r".*\.(now|utcnow|today)|time\.(time|time_ns|localtime|gmtime|clock_gettime)")
    for module, tree in MODULES.items():
        if not module.startswith("gateway/"):
            read = {name for name in (*attributes(tree), *imports(tree)) if clocks.fullmatch(name)}
            assert not read, f"{module} reads {read}"


@pytest.mark.parametrize(
    "pure",
    [
        "ledger.consent.grant",
        "ledger.consent.fold",
        "ledger.consent.statement",
        "ledger.consent.story",
        "ledger.log.kinds",
        "ledger.log.leaf",
        "ledger.log.merkle",
        "ledger.log.note",
        "ledger.log.policy",
        "ledger.log.prefixmap",
        "ledger.log.public",
        "ledger.log.receipt",
        "ledger.log.replica",
        "ledger.store.sealing",
        "safety.policy.engine",
        "safety.chain",
    ],
)
def test_the_pure_parts_need_no_web_no_database_and_no_model(pure: str) -> None:
    """Not even by way of another module: whoever checks a proof offline installs none of these."""
    script = f"import sys, {pure}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in run.stdout.split()}
    assert not loaded & {"litestar", "sqlmodel", "sqlalchemy", "torch", "c2pa", "dbos", "av", "dlib"}


def test_every_module_says_what_it_is_for() -> None:
    for module, tree in MODULES.items():
        assert Path(module).stem in {"__init__", "__main__"} or ast.get_docstring(tree), module
        assert not set(Path(module).parts) & {
            f"{n}.py" for n in ("utils", "helpers", "common", "manager", "base")
        }


def test_every_exception_stands_in_its_package_s_tree() -> None:
    for package in ORDER[:-1]:
        tree = MODULES[f"{package}/errors.py"]
        told = ast.get_docstring(tree) or ""
        for node in tree.body:
            assert not isinstance(node, ast.ClassDef) or node.name in told, f"{package}: {node.name}"


def test_no_file_names_the_machine_it_was_written_on() -> None:
    # Written apart, so that this file does not name them either.
    foreign = [
        f"/{'work'}/",
        f"{'pypi'}.org",
        f"registry.{'npmjs'}",
        f"files.{'pythonhosted'}",
        f"/{'home'}/",
    ]
    paths = list(ours())
    assert len(paths) > 50
    for path in paths:
        content = path.read_bytes()
        for name in foreign:
            assert name.encode() not in content, f"{path.relative_to(ROOT)} names {name}"


def ours() -> Iterator[Path]:
    """Every file but those that git is told to ignore."""
    patterns = [".git", *(line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split())]

    def kept(names: list[str]) -> list[str]:
        return [name for name in names if not any(fnmatch(name, pattern) for pattern in patterns)]

    for folder, folders, files in os.walk(ROOT):
        folders[:] = kept(folders)
        yield from (Path(folder) / name for name in kept(files) if (Path(folder) / name).is_file())
