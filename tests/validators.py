"""Other people's C2PA validators, asked about files of ours. None of them is told what to find.

`encypher` shares no code with ours, and was written from the specification. `ts` neither, and knows no trust anchors:
its word is about structure, hashes and signatures. `wasm` is another release and another build of the library that we
sign with: what it adds is that a browser's users see the same.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import encypher_c2pa
import pytest

TESTS = Path(__file__).resolve().parent
SCRIPT = TESTS / "interop" / "c2pa" / "check.mjs"
INSTALLED = TESTS.parent / "var" / ".npm" / "c2pa"
PACKAGES = ("@contentauth/c2pa-wasm", "@trustnxt/c2pa-ts")


@dataclass(frozen=True)
class Opinion:
    """What one validator says. `bound`: the media are those it was signed over; None where it does not say."""

    state: str
    bound: bool | None
    failures: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether it finds no fault with the bytes, whoever signed them."""
        return self.state in {"Trusted", "Valid"} and self.bound is not False


def by_encypher(path: Path, anchors_pem: bytes | None, **options: Any) -> dict[str, Any]:
    anchors = None if anchors_pem is None else anchors_pem.decode()
    return dict(
        encypher_c2pa.verify(
            path,
            mime_type="video/mp4",
            trust_pem=anchors,
            tsa_trust_pem=anchors,
            no_default_trust=True,
            telemetry=False,
            online=False,
            **options,
        )
    )


def opinions(paths: Sequence[Path], anchors_pem: bytes) -> list[dict[str, Opinion]]:
    """Every validator's word on each file, by its name. One node process looks at all of them."""
    node = shutil.which("node")
    locked = json.loads((SCRIPT.parent / "package-lock.json").read_text())["packages"]
    for name in PACKAGES:
        package = INSTALLED / "node_modules" / name / "package.json"
        if node is None or not package.is_file():
            pytest.fail("other people's validators need node and two npm packages: run `make setup`")
        version = json.loads(package.read_text())["version"]
        assert version == locked[f"node_modules/{name}"]["version"], "run `make setup` again"
    asked = "".join(json.dumps({"path": str(one), "anchors": anchors_pem.decode()}) + "\n" for one in paths)
    done = subprocess.run(
        [str(node), str(SCRIPT), str(INSTALLED)],
        input=asked,
        capture_output=True,
        check=True,
        timeout=120,
        text=True,
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == len(paths), done.stderr
    return [
        {"encypher": _encypher(path, anchors_pem), "wasm": _wasm(one["wasm"]), "ts": _ts(one["ts"])}
        for path, one in zip(paths, told, strict=True)
    ]


def _encypher(path: Path, anchors_pem: bytes) -> Opinion:
    try:
        report = by_encypher(path, anchors_pem)
    except Exception as error:  # noqa: BLE001 — whatever it throws, it does not accept the file
        return Opinion("none", None, (str(error)[:80],))
    failures = tuple(one["code"] for one in report["validation_results"]["failure"])
    bound = {"match": True, "mismatch": False}.get(report["hard_binding"])
    return Opinion(report["validation_state"], bound, failures)


def _wasm(report: dict[str, Any]) -> Opinion:
    if "error" in report:
        return Opinion("none", None, (report["error"][:80],))
    succeeded, failed = report["success"], tuple(report["failure"])
    bound = "assertion.bmffHash.match" in succeeded and "assertion.bmffHash.mismatch" not in failed
    return Opinion(report["state"], bound, failed)


def _ts(report: dict[str, Any]) -> Opinion:
    if "error" in report:
        return Opinion("none", None, (report["error"][:80],))
    failed = tuple(code for code, success in report["codes"] if success is False)
    bound = ["assertion.bmffHash.match", True] in report["codes"]
    return Opinion("Valid" if report["valid"] else "Invalid", bound, failed)
