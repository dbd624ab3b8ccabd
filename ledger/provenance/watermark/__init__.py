"""v2 under construction"""

from ledger.provenance.watermark.ecc import PAYLOAD_BYTES
from ledger.provenance.watermark.embed import Embedder
from ledger.provenance.watermark.sampling import NotDetected, Sampled, sample
from ledger.provenance.watermark.search import Detected, detect, find

__all__ = ["PAYLOAD_BYTES", "Detected", "Embedder", "NotDetected", "Sampled", "detect", "find", "sample"]
