from ledger.provenance.watermark.ecc import PAYLOAD_BYTES
from ledger.provenance.watermark.embed import Embedder
from ledger.provenance.watermark.search import Detected, NotDetected, detect

__all__ = ["PAYLOAD_BYTES", "Detected", "Embedder", "NotDetected", "detect"]
