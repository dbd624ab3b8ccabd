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

The engine is native code, and runs in worker processes only (:func:`search`).

Left to others: liveness, age, sampling frames (:mod:`safety.sampling`), searching large sets (:mod:`safety.gallery`).
"""

import contextlib
import struct
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import groupby
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from ledger.ids import CameoId
from safety import workers
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
LINK_DISTANCE: Final = 0.50
"""Faces of neighbouring looks in one place, at most so far apart, are one face going on. 95 % of pictures of one person
taken on different days are; of different people, two in a million."""
STEADY: Final = 3
"""From so many sightings on, a track is judged by their mean as well, which noise and blur move less."""
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
    """Load the models once. Only the five-point landmarks: the 68-point model forbids commercial use, and is not opened.

    Without its models or `pkg_resources` the package prints a hint and *quits with status 0*, which would end
    the service as if all were well; and it switches on loading of truncated images for the whole process.
    """
    truncated_allowed = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pkg_resources says that it will go; setuptools is held below 82
            import face_recognition_models as files  # noqa: PLC0415 — the import itself may end the process

            files.pose_predictor_model_location = files.pose_predictor_five_point_model_location
            import face_recognition.api as models  # noqa: PLC0415

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


def search(pictures: Iterable[Picture]) -> Iterator[tuple[Face, ...]]:
    """:func:`find_faces` of each, in order, in worker processes: the way everyone asks. Takes them one by one.

    Raises CheckUnavailable where a worker was lost over one of them, and what `find_faces` raises.
    """
    return workers.shared().flow(find_faces, ((picture,) for picture in pictures))


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
    return _enrolled(tuple(map(_only_face, search(pictures))))


def enrol_film(images: Sequence[Picture], *, most: int) -> tuple[Enrolled, tuple[int, ...]]:
    """The likeness of the one person in the frames of a film, and which frames it was taken from, `most` at most.

    Frames that no portrait could be taken from are passed over. Of the others, those most unlike each other are kept,
    as long as they are clearly of one person; a frame that is off, as from a blur, is dropped. One that clearly shows
    somebody else is not: raises Refused, as :func:`enrol_portrait` does, also where no frame is of use.
    """
    usable: dict[int, Face] = {}
    refused: Refused | None = None
    for place, found in enumerate(search(images)):
        try:
            usable[place] = _only_face(found)
        except Refused as why:
            refused = refused or why
    if not usable:
        raise refused or Refused(
            "portrait.count", "there is no picture in the film", "film yourself again, and send all of it"
        )
    places = list(usable)
    poses = np.stack([usable[place].template for place in places])
    apart = np.linalg.norm(poses[:, None] - poses[None, :], axis=2)
    middle = int(np.median(apart, axis=1).argmin())
    if not (apart[middle] <= STRANGER_DISTANCE).all():
        raise _different_people()
    best = max(
        np.flatnonzero(apart[middle] <= GRANT_DISTANCE).tolist(),
        key=lambda n: (usable[places[n]].frontal, usable[places[n]].score),
    )
    kept = [best]
    while len(kept) < most:
        # Farthest from all that are kept, and of the same person as every one of them.
        nearest = np.where((apart[kept] <= GRANT_DISTANCE).all(axis=0), apart[kept].min(axis=0), 0)
        if not nearest.max() > 0:
            break
        kept.append(int(nearest.argmax()))
    return _enrolled(tuple(usable[places[n]] for n in kept)), tuple(places[n] for n in kept)


def _enrolled(faces: tuple[Face, ...]) -> Enrolled:
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
        raise _different_people()
    return Enrolled(Likeness(np.vstack([poses.mean(axis=0), poses])), faces, best)


def _different_people() -> Refused:
    return Refused(
        "portrait.different_people",
        "the portraits do not clearly show the same person",
        "send portraits of one person, in even light, without sunglasses",
    )


def _only_face(found: Sequence[Face]) -> Face:
    faces = [face for face in found if face.recognisable]
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
    return _distance(face.template, likeness)


def _distance(template: Template, likeness: Likeness) -> float:
    return float(np.linalg.norm(likeness.templates - template, axis=1).min())


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
    look, for a reviewer. listed: faces that `listed` knows. Times in seconds from the clip's start. strangers: how
    many faces the ungranted sightings are of. enrolled: whose of them are known here.
    """

    frames_checked: int
    faces_seen: int
    granted_seen: Mapping[CameoId, int]
    ungranted: tuple[tuple[float, Box], ...]
    doubtful: tuple[tuple[float, Box], ...]
    listed: tuple[tuple[float, Box], ...] = ()
    strangers: int = 0
    enrolled: tuple[CameoId, ...] = ()


class _Sighting(NamedTuple):
    t_s: float
    face: Face


_Track = list[_Sighting]
"""One face from frame to frame, oldest first; at most one sighting a frame."""


def check_output(
    frames: Iterable[tuple[float, Picture]],
    granted: Mapping[CameoId, Likeness],
    listed: Callable[[Face], bool] = lambda _: False,
    enrolled: Callable[[Face], CameoId | None] = lambda _: None,
) -> OutputCheck:
    """Check the faces of sampled `frames`, (time in seconds, uint8 [h, w, 3] RGB), against those granted.

    Sightings of one face are linked into tracks: near in time and place, and alike. Then, in each track,

    1. a recognisable face within GRANT_DISTANCE of a granted person confirms that person there and then; but in a
       track of STEADY or more only if the mean of all its faces is that near too. So a look-alike who comes near in
       some frames is not taken for the person in those;
    2. one within STRANGER_DISTANCE counts for its nearest granted person if a confirmed sighting of that person
       in its track lies within VOUCH_S, overlaps it and is of a face as like it as one person's are. Each confirmed
       sighting vouches for one face only, so a look-alike cannot ride on one good frame through the rest of the clip;
    3. so do STEADY or more that only blur keeps beyond GRANT_DISTANCE: their own mean has to be within it;
    4. every other recognisable face is ungranted.

    Each is also asked about: is it `listed`, as one that nobody may generate, whoever agreed. And the mean of what is
    ungranted in each track is asked for among all who are `enrolled`.
    """
    times: list[float] = []
    found = list(search(_timed(frames, times)))
    if not times:
        raise CheckUnavailable(
            "faces.no_frames",
            "the clip gave no frames to check",
            "render the clip again; it stays held until checked",
        )
    seen = [_Sighting(t_s, face) for t_s, faces in zip(times, found, strict=True) for face in faces]
    sightings = [one for one in seen if one.face.recognisable]
    people, likenesses = list(granted), list(granted.values())
    counts = dict.fromkeys(people, 0)
    ungranted: _Track = []
    strangers, known = 0, dict[CameoId, None]()
    for track in _tracks(sightings):
        whose = _whose(track, likenesses)
        for who in whose:
            if who is not None:
                counts[people[who]] += 1
        unknown = [one for one, who in zip(track, whose, strict=True) if who is None]
        if unknown:
            strangers += 1
            ungranted += unknown
            cameo_id = enrolled(replace(unknown[0].face, template=_mean(unknown)))
            if cameo_id is not None:
                known[cameo_id] = None
    return OutputCheck(
        frames_checked=len(times),
        faces_seen=len(sightings),
        granted_seen=counts,
        ungranted=_places(ungranted),
        doubtful=_places(one for one in seen if not one.face.recognisable),
        listed=_places(one for one in sightings if listed(one.face)),
        strangers=strangers,
        enrolled=tuple(known),
    )


def _timed(frames: Iterable[tuple[float, Picture]], times: list[float]) -> Iterator[Picture]:
    for t_s, picture in frames:
        times.append(t_s)
        yield picture


def _places(sightings: Iterable[_Sighting]) -> tuple[tuple[float, Box], ...]:
    return tuple(sorted((one.t_s, one.face.box) for one in sightings))


def _tracks(sightings: Sequence[_Sighting]) -> list[_Track]:
    """Every sighting in exactly one track. The most overlapping pairs of a moment are linked first."""
    tracks: list[_Track] = []
    for _, moment in groupby(sightings, key=lambda one: one.t_s):
        new = list(moment)
        links = sorted(
            (
                (-_overlap(track[-1].face.box, one.face.box), t, n)
                for t, track in enumerate(tracks)
                for n, one in enumerate(new)
                if _continues(track[-1], one)
            ),
        )
        taken, linked = set[int](), set[int]()
        for _, t, n in links:
            if t not in taken and n not in linked:
                taken.add(t)
                linked.add(n)
                tracks[t].append(new[n])
        tracks += [[one] for n, one in enumerate(new) if n not in linked]
    return tracks


def _continues(last: _Sighting, one: _Sighting) -> bool:
    return (
        0 < one.t_s - last.t_s <= VOUCH_S
        and _overlap(last.face.box, one.face.box) >= VOUCH_OVERLAP
        and _apart(last, one) <= LINK_DISTANCE
    )


def _whose(track: _Track, likenesses: Sequence[Likeness]) -> list[int | None]:
    """Whose each sighting of a track is, by its place in `likenesses`; None for nobody's."""
    steady, whole = len(track) >= STEADY, _mean(track)
    # INVARIANT: in a steady track nobody passes for a person whom the track as a whole is not near to, by any rule.
    near = {
        who: likeness
        for who, likeness in enumerate(likenesses)
        if not steady or _distance(whole, likeness) <= GRANT_DISTANCE
    }
    whose = [who if who in near else None for who in (match(one.face, likenesses) for one in track)]
    vouchers = [(one, who) for one, who in zip(track, whose, strict=True) if who is not None]
    nearest = [_nearest(one.face, likenesses, STRANGER_DISTANCE) for one in track]
    nearest = [who if who in near else None for who in nearest]
    for n, one in enumerate(track):
        if whose[n] is None and nearest[n] is not None:
            voucher = _voucher(one, [other for other, who in vouchers if who == nearest[n]])
            if voucher is not None:
                vouchers = [(other, who) for other, who in vouchers if other is not voucher]
                whose[n] = nearest[n]
    for who, likeness in near.items():
        blurred = [n for n in range(len(track)) if whose[n] is None and nearest[n] == who]
        mean = _mean([track[n] for n in blurred]) if len(blurred) >= STEADY else None
        if mean is not None and _distance(mean, likeness) <= GRANT_DISTANCE:
            for n in blurred:
                whose[n] = who
    return whose


def _mean(sightings: Sequence[_Sighting]) -> Template:
    mean: Template = np.mean([one.face.template for one in sightings], axis=0)
    return mean


def _apart(one: _Sighting, other: _Sighting) -> float:
    return float(np.linalg.norm(one.face.template - other.face.template))


def _voucher(sighting: _Sighting, confirmed: Sequence[_Sighting]) -> _Sighting | None:
    """The confirmed sighting nearest in time that may vouch for this one."""
    near = [
        other
        for other in confirmed
        if 0 < abs(other.t_s - sighting.t_s) <= VOUCH_S
        and _overlap(other.face.box, sighting.face.box) >= VOUCH_OVERLAP
        and _apart(other, sighting) <= GRANT_DISTANCE
    ]
    return min(near, key=lambda other: abs(other.t_s - sighting.t_s), default=None)


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[1], other[1]) - max(one[3], other[3])
    shared = max(height, 0) * max(width, 0)
    areas = sum((box[2] - box[0]) * (box[1] - box[3]) for box in (one, other))
    return shared / (areas - shared) if areas > shared else 0.0
