"""Pictures compared with descriptions: how much more a picture is like "a bloody wound" than like "a kitchen".

The one module that knows open_clip. It takes weights from a file that an operator added, checks their SHA-256 before
they are read, and reads tensors only; it never asks the network for anything. Everything here runs in a worker.

How well this finds what it looks for is *not measured*: no weights were at hand to measure with. The probabilities are
the model's own, at the temperature it was trained with, and not calibrated to anything. So it only ever adds reasons
to deny: a score from here is taken where it is higher than another, and where the model is missing the check is too.
"""

import logging
import os
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safety.errors import CheckUnavailable
from safety.models import Added, finite

Concept = Literal["sexual", "violence", "hate", "self_harm", "minors"]
TEMPLATES: Final = ("a photo of {}", "a frame of a video showing {}", "a drawing of {}")
CONCEPTS: Final[Mapping[Concept, tuple[str, ...]]] = {
    "sexual": (
        "a naked person",
        "a woman with bare breasts",
        "a man with bare genitals",
        "people having sex",
        "a person undressing for the camera",
        "pornography",
    ),
    "violence": (
        "a person being shot",
        "a person being stabbed",
        "a person being beaten and kicked",
        "a dead body",
        "a severe bleeding wound",
        "a person being tortured",
        "a gun held to somebody's head",
        "an execution",
    ),
    "hate": (
        "a swastika flag",
        "a person giving a Nazi salute",
        "people in Ku Klux Klan hoods",
        "a noose as a threat",
        "a terrorist group's flag",
    ),
    "self_harm": (
        "a person cutting their own arm",
        "a person hanging from a rope",
        "a person about to jump off a roof",
        "a person holding a gun to their own head",
        "scars of self-injury on a wrist",
    ),
    "minors": (
        "a baby",
        "a toddler",
        "a young child",
        "a boy",
        "a girl",
        "a schoolchild",
        "a teenage boy",
        "a teenage girl",
    ),
}
EVERYDAY: Final[tuple[str, ...]] = (
    "an adult woman",
    "an adult man",
    "an old person",
    "a person in everyday clothes",
    "a person in swimwear on a beach",
    "a portrait of an adult",
    "adults talking in an office",
    "people dancing at a party",
    "athletes in a contest",
    "a doctor at work",
    "a kitchen with food and red sauce",
    "a city street",
    "a national flag",
    "a landscape without people",
    "an animal",
    "a machine",
    "a painting",
    "an empty room",
)


@dataclass(frozen=True, slots=True)
class Likened:
    """scores: 0 to 1000 by concept, of one picture."""

    scores: Mapping[str, int]


def liken(model: Added, picture: NDArray[np.uint8]) -> Likened:
    """Compare uint8 [h, w, 3] RGB with every description. Of a long picture, the square that is most like each.

    Raises CheckUnavailable where the model cannot be loaded, or answers something that is no number.
    """
    import torch  # noqa: PLC0415 — only a worker loads it

    loaded = _loaded(model)
    given = torch.stack([loaded.prepare(square) for square in squares(picture)])
    with torch.inference_mode():
        features = torch.nn.functional.normalize(loaded.net.encode_image(given), dim=-1)
        logits = loaded.scale * features @ loaded.texts.T
    likeness = finite(logits.float().numpy())
    everyday = likeness[:, loaded.rows["everyday"]]
    scores = dict[str, int]()
    for concept in CONCEPTS:
        alike = likeness[:, loaded.rows[concept]]
        top = np.maximum(alike.max(axis=1), everyday.max(axis=1))[:, None]
        for_it, against = np.exp(alike - top).sum(axis=1), np.exp(everyday - top).sum(axis=1)
        scores[concept] = round(1000 * float((for_it / (for_it + against)).max()))
    return Likened(scores)


def squares(picture: NDArray[np.uint8]) -> list[Image.Image]:
    """Squares as large as the picture is short, side by side, that cover it."""
    height, width = picture.shape[:2]
    side = min(height, width)
    count = -(-max(height, width) // side)
    cuts = [round(i * (max(height, width) - side) / max(1, count - 1)) for i in range(count)]
    whole = Image.fromarray(picture)
    return [
        whole.crop((cut, 0, cut + side, side) if width >= height else (0, cut, side, cut + side))
        for cut in cuts
    ]


# ── loading ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Loaded:
    """texts: float32 [n, d], normalised, a mean over the templates. rows: which of them a concept has."""

    net: Any
    prepare: Any
    scale: float
    texts: Any
    rows: Mapping[str, slice]


@lru_cache(maxsize=1)
def _loaded(model: Added) -> _Loaded:
    path = model.verified()
    try:
        net, prepare = network(model.architecture, str(path))
        return _with_texts(net, prepare, model.architecture)
    except CheckUnavailable:
        raise
    except Exception as error:
        raise CheckUnavailable(
            "models.unusable",
            f"the model `{model.name}` cannot be loaded",
            "see `countersign models list`, and add the weights again as they were published",
        ) from error


def network(architecture: str, path: str) -> tuple[Any, Any]:
    """open_clip's model with exactly the tensors of the file, and how it wants its pictures."""
    open_clip = _open_clip()
    net = _unlearnt(open_clip, architecture)
    if _scripted(path):
        state = _unscripted(path)
        # Beside tensors it names sizes, and masks that are computed; what the model has, it has to hold.
        net.load_state_dict({name: state[name].float() for name in net.state_dict()}, strict=True)
    else:
        open_clip.load_checkpoint(net, path, strict=True, weights_only=True)
    net.eval()
    prepare = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(size=net.visual.image_size), is_train=False
    )
    return net, prepare


def _unlearnt(open_clip: Any, architecture: str) -> Any:
    """The architecture, by name. Those of the catalogue are built of what is in open_clip itself."""
    logging.disable(logging.WARNING)  # it warns that there are no weights yet
    try:
        return open_clip.create_model(architecture, pretrained=None, load_weights=False)
    finally:
        logging.disable(logging.NOTSET)


def _open_clip() -> Any:
    """Import it. Beside torch for processors only, torchvision names operators that nobody declared."""
    import torch  # noqa: PLC0415

    library: Any = torch.library
    os.environ["HF_HUB_OFFLINE"] = "1"
    declared = library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        with suppress(RuntimeError):  # a torchvision that does declare them
            declared.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _DECLARED.append(declared)
    import open_clip  # noqa: PLC0415

    return open_clip


_DECLARED: Final[list[Any]] = []
"""What is declared is forgotten with the object that declared it."""


def _scripted(path: str) -> bool:
    """Whether this is an archive of TorchScript, the form that the first weights were published in."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _unscripted(path: str) -> dict[str, Any]:
    import torch  # noqa: PLC0415

    # TorchScript is code, for an interpreter of its own; this is run only for the file whose hash was checked.
    reader: Any = torch.jit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return dict(reader.load(path, map_location="cpu").state_dict())


def _with_texts(net: Any, prepare: Any, architecture: str) -> _Loaded:
    import torch  # noqa: PLC0415

    tokens = _open_clip().get_tokenizer(architecture)
    rows: dict[str, slice] = {}
    phrases: list[str] = []
    for concept, described in (*CONCEPTS.items(), ("everyday", EVERYDAY)):
        rows[concept] = slice(len(phrases), len(phrases) + len(described))
        phrases += described
    with torch.inference_mode():
        each = [_encoded(net, tokens([template.format(one) for one in phrases])) for template in TEMPLATES]
        texts = torch.nn.functional.normalize(torch.stack(each).mean(dim=0), dim=-1)
        scale = float(net.logit_scale.exp())
    finite(np.append(texts.numpy().ravel(), np.float32(scale)))
    return _Loaded(net, prepare, scale, texts, rows)


def _encoded(net: Any, tokens: Any) -> Any:
    import torch  # noqa: PLC0415

    return torch.nn.functional.normalize(net.encode_text(tokens), dim=-1)


__all__: Sequence[str] = ("CONCEPTS", "Concept", "Likened", "liken", "network", "squares")
