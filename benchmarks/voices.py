"""Whose a voice is: how often a stranger passes for somebody, and somebody does not pass for themselves.

    python benchmarks/voices.py DIR [--quick]      one folder for each person, of recordings of them (wav, flac, ogg, mka)

The first three recordings of a person are their template; each other one is compared with everybody's. The last line
on stdout is one JSON object: `eer` and the score it is at, and at the two shipped thresholds (of 1000) `fmr`, strangers
who pass, and `fnmr`, people who do not. People with under four recordings only play strangers. Measure people recorded
on more than one day where you can: what a microphone and a room sound like is told from person to person as well.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

# Not the folder this stands in: the benchmark beside it is called as the package is.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from safety import voices
from safety.voice.activity import LONGEST_S, RATE_HZ, speech
from safety.voice.speakers import Voice, similarity, windows

TEMPLATE = 3
QUICK_PEOPLE, QUICK_EACH = 12, 6
KINDS = {".wav", ".flac", ".ogg", ".opus", ".mka", ".mp3", ".m4a"}


def rows(path: Path) -> Voice:
    """The template rows of a recording."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
    with av.open(str(path)) as container:
        parts = [
            out.to_ndarray()[0] for frame in container.decode(audio=0) for out in resampler.resample(frame)
        ]
        parts += [out.to_ndarray()[0] for out in resampler.resample(None)]
    samples = np.concatenate(parts)[: int(LONGEST_S * RATE_HZ)].astype(np.float32)
    return windows(samples, speech(samples))[1]


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    people = sorted(path for path in folder.iterdir() if path.is_dir())[: QUICK_PEOPLE if quick else None]
    heard: dict[str, list[Voice]] = {}
    for person in people:
        files = sorted(path for path in person.iterdir() if path.suffix.lower() in KINDS)
        found = [rows(path) for path in files[: QUICK_EACH if quick else None]]
        heard[person.name] = [voice for voice in found if len(voice)]
    known = {who: np.concatenate(found[:TEMPLATE]) for who, found in heard.items() if len(found) > TEMPLATE}
    same, other = list[int](), list[int]()
    for who, found in heard.items():
        for voice in found[TEMPLATE if who in known else 0 :]:
            for name, theirs in known.items():
                (same if name == who else other).append(similarity(voice, theirs))
    if not same or not other:
        raise SystemExit(
            "at least two people are needed, one of them with four recordings of a second or more"
        )
    eer, at = _equal(np.array(same), np.array(other))
    return {
        "people": len(heard),
        "same": len(same),
        "other": len(other),
        "eer": eer,
        "eer_at": at,
        **{
            name: {
                "threshold": threshold,
                "fmr": round(float((np.array(other) >= threshold).mean()), 5),
                "fnmr": round(float((np.array(same) < threshold).mean()), 5),
            }
            for name, threshold in (("granted", voices.GRANTED), ("enrolled", voices.ENROLLED))
        },
    }


def _equal(same: NDArray[np.int64], other: NDArray[np.int64]) -> tuple[float, int]:
    """The rate at which both errors are nearest to one another, and the score there."""
    missed = np.array([(same < score).mean() for score in range(1001)])
    passed = np.array([(other >= score).mean() for score in range(1001)])
    at = int(np.abs(missed - passed).argmin())
    return round(float(missed[at] + passed[at]) / 2, 5), at


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="DIR", help="one folder of recordings per person")
    parser.add_argument("--quick", action="store_true", help="a sample; about a minute")
    asked = parser.parse_args()
    print(json.dumps(measure(asked.folder, quick=asked.quick)))


if __name__ == "__main__":
    main()
