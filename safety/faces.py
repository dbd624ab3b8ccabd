"""Faces: who is in a picture, as far as a machine can say, and whether everyone in a clip agreed.

Guarantees

- Nobody passes because a check did not run. A missing or failing engine, or a clip without frames, raises
  CheckUnavailable; a template that is not a number is near nobody; a face that matches nobody granted is
  reported as ungranted.
- Two bands. ≤ :data:`GRANT_DISTANCE` is the person; > :data:`STRANGER_DISTANCE` is someone else. Between them
  only a confirmed sighting of the same person close by in time and place can vouch, once, for one face.
- Templates identify people. They are never printed, and leave this module only through
  :meth:`Likeness.to_bytes`, for the ledger to encrypt.

What counts as a face. The detector also sees faces in objects: its margin for the model shuttle behind Eileen
Collins is about 0.1, for her own face 1.5, and for a small real face, first seen at 0.3, again 1.1 when looked at
once more at a good size. So a doubtful detection gets a *second look* in its crop, at two sizes and mirrored,
and the median margin decides :attr:`Face.recognisable`. Enrolment is strict beyond that (size, sharpness,
frontal, steady): a refusal there costs a better photograph. Clearing output applies no size or sharpness gate,
or "make it small and blurred" would be a way around it: whatever is recognisable must match. Detections that
fail the second look neither pass nor fail a clip; they are returned as `doubtful`, for a reviewer and the ledger.
The limit stays: faces in profile, below about an eighth of the picture's height, or heavily blurred are not
detected at all, by this or any frontal detector. Backends are held to consent before they run for that reason.

Left to others: liveness, age, sampling frames (two to four a second), searching large sets.
"""

import contextlib
import struct
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from ledger.ids import CameoId
from safety.errors import CheckUnavailable, InvalidInput, Refused

GRANT_DISTANCE: Final = 0.45
"""At most this far from an enrolled pose: the same person. Tighter than the usual 0.6, because here a false match
puts a stranger's face under someone else's consent; it costs some refusals of the right person in bad light."""
STRANGER_DISTANCE: Final = 0.60
"""Farther than this: another person, whatever the neighbouring frames say. The network was trained to this."""
RECOGNISABLE_SCORE: Final = 0.25
"""Median detector margin of the second look. Objects measured -0.3…0.15, small and soft real faces 0.3…1.6."""
SURE_SCORE: Final = 0.9
"""A first look at least this good needs no second."""
ENROL_SCORE: Final = 0.8
ENROL_WIDTH_PX: Final = 80
ENROL_SHARPNESS: Final = 50.0
VOUCH_S: Final = 1.0
"""How far in time a confirmed sighting may vouch for a borderline face: two to four sampled frames."""
VOUCH_OVERLAP: Final = 0.3
MAX_POSES: Final = 16

_DIMENSIONS: Final = 128
_FORM: Final = struct.Struct("<8sBB")
_MAGIC: Final = b"likeness"
_WORKING_SIDE: Final = (600, 1080)
_TRACKING_SIDE: Final = (480, 640)
_TRACKED_WIDTH_PX: Final = 110
MOST_ASPECT: Final = 4
"""Pictures are searched with a short side in this range: the detector's window is 80 px, about 1/8 of 600."""

Box = tuple[int, int, int, int]
"""(top, right, bottom, left) in pixels, right and bottom exclusive, inside the picture."""
Picture = NDArray[np.uint8]
Template = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Face:
    """One detection. `template` is float64 [128]; not-a-number, so near nobody, where the face is not recognisable.

    score: detector margin, median of the second look where there was one. sharpness: variance of the Laplacian
    of the face at 96 by 96 pixels. frontal: the five landmarks sit where a face seen from the front has them.
    """

    box: Box
    template: Template = field(repr=False, compare=False)
    score: float
    sharpness: float
    frontal: bool
    recognisable: bool

    @property
    def width_px(self) -> int:
        return self.box[1] - self.box[3]


# ── the engine ────────────────────────────────────────────────────────────────────────────────────────────


class _Engine(NamedTuple):
    detector: Any
    landmarks: Any
    encoder: Any


_RUNNING: Final = threading.Lock()
"""dlib's detector and network keep scratch state: one thread at a time."""


@lru_cache(maxsize=1)
def _engine() -> _Engine:
    """Load the models once. Only the five-point landmarks are used: the 68-point model forbids commercial use.

    Without its models or `pkg_resources` the package prints a hint and *quits with status 0*, which would end
    the service as if all were well; and it switches on loading of truncated images for the whole process.
    """
    truncated_allowed = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pkg_resources says that it will go; setuptools is held below 82
            import face_recognition.api as models  # noqa: PLC0415 — the import itself may end the process

        return _Engine(models.face_detector, models.pose_predictor_5_point, models.face_encoder)
    except (SystemExit, ImportError, AttributeError, NameError, OSError, RuntimeError) as error:
        raise CheckUnavailable(
            "faces.engine_missing",
            "the face engine cannot be loaded",
            "install face-recognition, its models and setuptools below 82, then restart",
        ) from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = truncated_allowed


@contextlib.contextmanager
def _engine_running() -> Iterator[_Engine]:
    engine = _engine()
    with _RUNNING:
        try:
            yield engine
        except (RuntimeError, MemoryError) as error:
            raise CheckUnavailable(
                "faces.engine_failed", "the face engine failed on a picture", "try again; the clip stays held"
            ) from error


# ── finding ───────────────────────────────────────────────────────────────────────────────────────────────


def find_faces(image: Picture) -> tuple[Face, ...]:
    """Every detection in `image` (uint8 [h, w, 3], RGB), left to right, recognisable or not."""
    _require_picture(image)
    short = min(image.shape[:2])
    scale = min(max(short, _WORKING_SIDE[0]), _WORKING_SIDE[1]) / short
    working = _resized(image, scale)
    with _engine_running() as engine:
        rects, scores, _ = engine.detector.run(working, 0, 0.0)
        faces = [
            _face(engine, image, working, rect=rect, score=score)
            for rect, score in zip(rects, scores, strict=True)
        ]
    return tuple(sorted((face for face in faces if face is not None), key=lambda face: face.box[3]))


def _face(engine: _Engine, image: Picture, working: Picture, *, rect: Any, score: float) -> Face | None:
    height, width = image.shape[:2]
    scale = working.shape[0] / height
    box = (
        max(round(rect.top() / scale), 0),
        min(round((rect.right() + 1) / scale), width),
        min(round((rect.bottom() + 1) / scale), height),
        max(round(rect.left() / scale), 0),
    )
    if box[2] - box[0] < 2 or box[1] - box[3] < 2:
        return None
    if score < SURE_SCORE:
        score = max(_second_look(engine, working, rect), 0.0)
    shape = engine.landmarks(working, rect)
    recognisable = score >= RECOGNISABLE_SCORE
    return Face(
        box=box,
        template=np.asarray(engine.encoder.compute_face_descriptor(working, shape, 1), dtype=np.float64)
        if recognisable
        else np.full(_DIMENSIONS, np.nan),
        score=float(score),
        sharpness=_sharpness(image, box),
        frontal=_frontal(shape, rect),
        recognisable=recognisable,
    )


def find_points(
    image: Picture, near: Box | None = None, *, sure: bool = False
) -> tuple[Box, NDArray[np.float64]] | None:
    """The largest face seen from the front, and its five points: the corners of the eye to the right of the
    picture (outer, inner) and of the other, and the root of the nose. float64 [5, 2], x and y in pixels.

    `near`: where it was a moment ago; only around there it is sought, which is quick. `sure`: it is still there.
    """
    _require_picture(image)
    top, left, part = 0, 0, image
    if near is None:
        short = min(image.shape[:2])
        scale = min(max(short, _TRACKING_SIDE[0]), _TRACKING_SIDE[1]) / short
    else:
        side = max(near[1] - near[3], 2)
        top, left = max(near[0] - side // 2, 0), max(near[3] - side // 2, 0)
        part = np.ascontiguousarray(image[top : near[2] + side // 2, left : near[1] + side // 2])
        scale = _TRACKED_WIDTH_PX / side
    working = _resized(part, scale)
    with _engine_running() as engine:
        import dlib  # noqa: PLC0415 — the engine is there, so this is

        if near is not None and sure:
            edges = ((near[3] - left, near[0] - top), (near[1] - left, near[2] - top))
            (x0, y0), (x1, y1) = ((round(x * scale), round(y * scale)) for x, y in edges)
            rects = [dlib.rectangle(x0, y0, x1 - 1, y1 - 1)]
        else:
            rects = list(engine.detector.run(working, 0, 0.0)[0])
        if not rects:
            return None
        rect = max(rects, key=lambda one: one.area())
        shape = engine.landmarks(working, rect)
    points = np.array([(p.x, p.y) for p in shape.parts()], dtype=np.float64) / scale + (left, top)
    edges_px = (rect.top(), rect.right() + 1, rect.bottom() + 1, rect.left())
    found = [
        round(edge / scale) + start for edge, start in zip(edges_px, (top, left, top, left), strict=True)
    ]
    return (found[0], found[1], found[2], found[3]), points


def _second_look(engine: _Engine, working: Picture, rect: Any) -> float:
    """The median margin over two sizes, each also mirrored, of the face and half its width around it."""
    side = rect.width()
    left, top = max(rect.left() - side // 2, 0), max(rect.top() - side // 2, 0)
    crop = working[top : rect.bottom() + side // 2, left : rect.right() + side // 2]
    margins = []
    for target_px in (90, 120):
        sized = _resized(crop, target_px / side)
        for view in (sized, np.ascontiguousarray(sized[:, ::-1])):
            _, scores, _ = engine.detector.run(view, 0, -1.0)
            margins.append(max(scores, default=-1.0))
    return float(np.median(margins))


def _frontal(shape: Any, rect: Any) -> bool:
    """Eyes level within 30°, nose below and between them: points are right eye out, in, left eye out, in, nose."""
    points = (
        np.array([(p.x - rect.left(), p.y - rect.top()) for p in shape.parts()], dtype=np.float64)
        / rect.width()
    )
    if points.shape != (5, 2):
        return False
    one, other, nose = points[0:2].mean(axis=0), points[2:4].mean(axis=0), points[4]
    across = one - other
    distance = float(np.hypot(*across))
    if not 0.25 <= distance <= 0.9 or abs(across[1]) > 0.5 * distance:
        return False
    along = float(np.dot(nose - other, across)) / distance**2
    below = float(across[0] * (nose - other)[1] - across[1] * (nose - other)[0]) / distance**2
    return 0.25 <= along <= 0.75 and 0.3 <= below <= 1.1


def _sharpness(image: Picture, box: Box) -> float:
    top, right, bottom, left = box
    crop = (
        Image.fromarray(image[top:bottom, left:right])
        .convert("L")
        .resize((96, 96), Image.Resampling.BILINEAR)
    )
    grey = np.asarray(crop, dtype=np.float64)
    laplacian = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(laplacian.var())


def _resized(image: Picture, scale: float) -> Picture:
    height, width = image.shape[:2]
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    if size == (width, height):
        return np.ascontiguousarray(image)
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.BILINEAR))


def _require_picture(image: Picture) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < 16:
        raise InvalidInput(
            "faces.not_a_picture",
            f"the picture is `{image.dtype}` {list(image.shape)}; faces are sought in uint8 [h, w, 3] of 16 pixels or more",
            "send a JPEG or PNG in colour",
        )
    # The short side is scaled up to a working size; a strip would become a picture no memory holds.
    if max(image.shape[:2]) > MOST_ASPECT * min(image.shape[:2]):
        raise InvalidInput(
            "faces.strip", "the picture is more than four times as long as it is wide", "crop it"
        )


# ── enrolled people ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """One enrolled person: the mean template, then each pose. float64 [1 + poses, 128], float32 precision.

    Stored as ``likeness`` ‖ version 1 ‖ u8 rows ‖ rows of 128 little-endian float32.
    """

    templates: NDArray[np.float64] = field(repr=False)

    def __post_init__(self) -> None:
        if (
            self.templates.ndim != 2
            or self.templates.shape[1] != _DIMENSIONS
            or not 1 <= len(self.templates) <= 1 + MAX_POSES
            or not np.isfinite(self.templates).all()
        ):
            raise _broken_likeness()
        kept = self.templates.astype("<f4").astype(np.float64)
        kept.setflags(write=False)
        object.__setattr__(self, "templates", kept)

    def to_bytes(self) -> bytes:
        """For encryption by the ledger; never for a log or a reply."""
        return _FORM.pack(_MAGIC, 1, len(self.templates)) + self.templates.astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Likeness":
        if len(data) < _FORM.size:
            raise _broken_likeness()
        magic, version, rows = _FORM.unpack_from(data)
        if magic != _MAGIC or version != 1 or len(data) != _FORM.size + rows * _DIMENSIONS * 4:
            raise _broken_likeness()
        return cls(
            np.frombuffer(data, "<f4", offset=_FORM.size).reshape(rows, _DIMENSIONS).astype(np.float64)
        )


def _broken_likeness() -> InvalidInput:
    return InvalidInput(
        "faces.broken_likeness",
        "the stored likeness is damaged or of an unknown version",
        "enrol the person again",
    )


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What enrolment keeps: the likeness, the face found in each picture, and which picture is the best portrait."""

    likeness: Likeness
    faces: tuple[Face, ...]
    best: int

    @property
    def face(self) -> Box:
        """Where the face is in the best portrait."""
        return self.faces[self.best].box


def enrol_portrait(images: Picture | Sequence[Picture]) -> Enrolled:
    """The likeness of the one person in a portrait, or in several poses of them.

    Raises Refused with what to do: nobody, several people, too small, blurred, turned away, different people.
    """
    pictures = [images] if isinstance(images, np.ndarray) else list(images)
    if not 1 <= len(pictures) <= MAX_POSES:
        raise Refused(
            "portrait.count",
            f"`{len(pictures)}` portraits were sent",
            f"send between 1 and {MAX_POSES} portraits",
        )
    faces = tuple(map(_only_face, pictures))
    best = max(range(len(faces)), key=lambda i: (faces[i].frontal, faces[i].score))
    if not faces[best].frontal or faces[best].score < ENROL_SCORE:
        raise Refused(
            "portrait.not_frontal",
            "the face is turned away, tilted or partly covered",
            "look straight into the camera, with nothing covering the face",
        )
    poses = np.stack([face.template for face in faces])
    apart = np.linalg.norm(poses[:, None] - poses[None, :], axis=2)
    if not (apart <= GRANT_DISTANCE).all():
        raise Refused(
            "portrait.different_people",
            "the portraits do not clearly show the same person",
            "send portraits of one person, in even light, without sunglasses",
        )
    return Enrolled(Likeness(np.vstack([poses.mean(axis=0), poses])), faces, best)


def _only_face(image: Picture) -> Face:
    faces = [face for face in find_faces(image) if face.recognisable]
    if not faces:
        raise Refused(
            "portrait.no_face",
            "no face was recognised in the portrait",
            "face the camera in even light and try again",
        )
    if len(faces) > 1:
        raise Refused(
            "portrait.several_faces",
            f"`{len(faces)}` faces are in the portrait; a likeness belongs to one person",
            "crop the picture to one person, or take it again alone",
        )
    face = faces[0]
    if face.width_px < ENROL_WIDTH_PX:
        raise Refused(
            "portrait.too_small",
            f"the face is `{face.width_px}` pixels wide; at least `{ENROL_WIDTH_PX}` are needed",
            "move closer or send a larger picture",
        )
    if face.sharpness < ENROL_SHARPNESS:
        raise Refused("portrait.too_blurred", "the face is blurred", "hold still, clean the lens, add light")
    return face


# ── matching ──────────────────────────────────────────────────────────────────────────────────────────────


def distance(face: Face, likeness: Likeness) -> float:
    """Euclidean distance to the nearest of the person's mean and poses."""
    return float(np.linalg.norm(likeness.templates - face.template, axis=1).min())


def match(face: Face, granted: Sequence[Likeness]) -> int | None:
    """The index of the nearest likeness within GRANT_DISTANCE, if any."""
    return _nearest(face, granted, GRANT_DISTANCE)


def _nearest(face: Face, granted: Sequence[Likeness], limit: float) -> int | None:
    distances = [distance(face, likeness) for likeness in granted]
    # INVARIANT: written so that a distance that is not a number is never within the limit.
    within = [i for i, d in enumerate(distances) if d <= limit]
    return min(within, key=distances.__getitem__, default=None)


# ── clearing output ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class OutputCheck:
    """What was seen in a clip. A clip is clear of strangers only when `ungranted` is empty.

    granted_seen: sightings of each granted person, zero included. doubtful: detections that failed the second
    look, for a reviewer. listed: faces that `listed` knows. Times in seconds from the clip's start.
    """

    frames_checked: int
    faces_seen: int
    granted_seen: Mapping[CameoId, int]
    ungranted: tuple[tuple[float, Box], ...]
    doubtful: tuple[tuple[float, Box], ...]
    listed: tuple[tuple[float, Box], ...] = ()


class _Sighting(NamedTuple):
    t_s: float
    face: Face


def check_output(
    frames: Iterable[tuple[float, Picture]],
    granted: Mapping[CameoId, Likeness],
    listed: Callable[[Face], bool] = lambda _: False,
) -> OutputCheck:
    """Check the faces of sampled `frames`, (time in seconds, uint8 [h, w, 3] RGB), against those granted.

    1. A recognisable face within GRANT_DISTANCE of a granted person confirms that person there and then.
    2. One within STRANGER_DISTANCE counts for its nearest granted person if a confirmed sighting of that person
       lies within VOUCH_S and overlaps it, in another frame. Each confirmed sighting vouches for one face only,
       so a look-alike cannot ride on one good frame through the rest of the clip.
    3. Every other recognisable face is ungranted.

    Each of them is also asked about: is it `listed`, as one that nobody may generate, whoever agreed.
    """
    people, likenesses = list(granted), list(granted.values())
    frames_checked = 0
    sightings: list[_Sighting] = []
    doubtful: list[tuple[float, Box]] = []
    for t_s, image in frames:
        frames_checked += 1
        for face in find_faces(image):
            if face.recognisable:
                sightings.append(_Sighting(t_s, face))
            else:
                doubtful.append((t_s, face.box))
    if not frames_checked:
        raise CheckUnavailable(
            "faces.no_frames",
            "the clip gave no frames to check",
            "render the clip again; it stays held until checked",
        )

    seen = dict.fromkeys(people, 0)
    vouchers: dict[int, list[_Sighting]] = {}
    unconfirmed: list[_Sighting] = []
    for sighting in sightings:
        who = match(sighting.face, likenesses)
        if who is None:
            unconfirmed.append(sighting)
        else:
            seen[people[who]] += 1
            vouchers.setdefault(who, []).append(sighting)

    ungranted = []
    for sighting in unconfirmed:
        who = _nearest(sighting.face, likenesses, STRANGER_DISTANCE)
        voucher = None if who is None else _voucher(sighting, vouchers.get(who, []))
        if who is None or voucher is None:
            ungranted.append((sighting.t_s, sighting.face.box))
        else:
            seen[people[who]] += 1
            vouchers[who].remove(voucher)
    known = tuple((one.t_s, one.face.box) for one in sightings if listed(one.face))
    return OutputCheck(frames_checked, len(sightings), seen, tuple(ungranted), tuple(doubtful), known)


def _voucher(sighting: _Sighting, confirmed: Sequence[_Sighting]) -> _Sighting | None:
    """The confirmed sighting nearest in time that may vouch for this one."""
    near = [
        other
        for other in confirmed
        if 0 < abs(other.t_s - sighting.t_s) <= VOUCH_S
        and _overlap(other.face.box, sighting.face.box) >= VOUCH_OVERLAP
    ]
    return min(near, key=lambda other: abs(other.t_s - sighting.t_s), default=None)


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[1], other[1]) - max(one[3], other[3])
    shared = max(height, 0) * max(width, 0)
    areas = sum((box[2] - box[0]) * (box[1] - box[3]) for box in (one, other))
    return shared / (areas - shared) if areas > shared else 0.0
