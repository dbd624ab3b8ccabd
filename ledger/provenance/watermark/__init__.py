"""An invisible mark that brings a clip back to its ledger entry after its metadata is gone.

    marked = [embed(frame, i) for i, frame in enumerate(frames)]   # embed = Embedder(key, payload, width=…, height=…)
    match detect(frames, key):
        case Detected(payload, confidence): ...
        case NotDetected(reason): ...

64 payload bits and 40 keyed check bits go through a convolutional code (:mod:`.ecc`) onto keyed plane waves that repeat
over the luma in coordinates free of resolution (:mod:`.lattice`), as strong as the picture hides (:mod:`.embed`), and
are found again by correlation (:mod:`.search`).

**Promised**, for pictures of 240 lines and more: untouched, remuxed, H.264 at CRF 23 and 28, scaled to 640×360 and back,
half the frames dropped, a second cut out, brightness and contrast, one frame saved as JPEG 75. Straight crops down to
about half, at CRF 23, are found as well. Quality: PSNR ≥ 44 dB over a clip, SSIM ≥ 0.99, at most 0.8 grey levels RMS
where the picture is flat.

**Not promised.** CRF above 28, a single second at CRF 28, re-encoding below 240 lines, rotation, mirror, change of aspect,
letterboxing together with rescaling, filmed screens. And no resistance to a motivated attacker: regeneration removes
every published mark.

**False positives.** A decoding that does not depend on the check key passes its 40 check bits with probability 2⁻⁴⁰.
One call decodes at most `search.MAX_ATTEMPTS` = 5 times: in place, at the best translation, at the three best scales. So
a clip without a mark of this key is taken for one with probability ≤ 5 · 2⁻⁴⁰ ≈ 4.5·10⁻¹², and a verifier may try two
hundred keys within 10⁻⁹. The correlations before it only choose *where* to decode; no threshold of theirs is
part of this sum. The check bits prove that *this key* marked *some* frames with the payload, not that these frames are
the ones it marked: a mark can be copied onto other footage, so a verdict also needs the fingerprint and the ledger.

**Averaging.** The pattern changes every 24 frames through four keyed patterns, in an order that depends on the payload.
Subtracting a clip's own mean therefore takes a quarter of each and leaves the mark readable. Whoever averages within a
segment of still picture, or sorts the segments of many clips of one key, still learns the patterns: change keys.
"""

from ledger.provenance.watermark.ecc import PAYLOAD_BYTES
from ledger.provenance.watermark.embed import Embedder
from ledger.provenance.watermark.search import Detected, NotDetected, Sampled, detect, find, sample

__all__ = ["PAYLOAD_BYTES", "Detected", "Embedder", "NotDetected", "Sampled", "detect", "find", "sample"]
