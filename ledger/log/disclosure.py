"""One entry, disclosed to someone entitled to it, with everything needed to check it offline.

    {"kind", "index", "body": {…}, "leaf": b64, "commitments": [b64, …],
     "opening": {"secret": b64, "label": "depicted", "n": 3}, "proof": "c2sp.org/tlog-proof@v1\\n…"}

What a verified disclosure says: the log's key signed a tree that contains, at this index, a leaf the service
signed, and that leaf commits to exactly this body, about the holder of the opening. It does not say that the
list it came in is complete.
"""

import operator
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.canonical import canonical, sha256
from ledger.errors import LedgerError, LogError
from ledger.log.leaf import Opening, open_leaf, verify_opening
from ledger.log.merkle import leaf_hash
from ledger.log.note import TlogProof, VerifierKey
from ledger.store.transaction import Opened


def disclose(opened: Opened, proof: TlogProof) -> dict[str, Any]:
    return {
        "kind": opened.kind,
        "index": opened.index,
        "body": dict(opened.body),
        "leaf": b64encode(opened.leaf).decode(),
        "commitments": [b64encode(commitment).decode() for commitment in opened.commitments],
        "opening": {
            "secret": b64encode(opened.opening.secret).decode(),
            "label": opened.opening.label,
            "n": opened.opening.n,
        },
        "proof": proof.encode().decode(),
    }


def verify_disclosure(
    item: Mapping[str, Any], log: VerifierKey, service_keys: Sequence[Ed25519PublicKey]
) -> Mapping[str, Any]:
    """The body, once everything about it holds. Raises LogError."""
    try:
        leaf = _decode(item["leaf"])
        body = {**item["body"]}
        digest = sha256(canonical(body))
        opening = Opening(
            secret=_decode(item["opening"]["secret"]),
            label=item["opening"]["label"],
            n=operator.index(item["opening"]["n"]),
            value=digest,
        )
        commitments = [_decode(commitment) for commitment in item["commitments"]]
        proof = TlogProof.parse(item["proof"].encode())
        index, kind = operator.index(item["index"]), item["kind"]
    except (KeyError, TypeError, ValueError, AttributeError, LedgerError) as error:
        raise LogError("log.disclosure", "the disclosed entry is not in the form it should have") from error
    # 1. The service signed this leaf, for this log.
    signed = open_leaf(leaf, log.name, service_keys)
    # 2. The leaf commits to this body, about the holder of this opening.
    verify_opening(signed, commitments, opening, digest)
    # 3. The leaf is in the tree the log signed.
    proof.verify(leaf_hash(leaf), log)
    # 4. The labels beside the body are the body's own.
    if index != proof.index or kind != body.get("kind"):
        raise LogError("log.disclosure", "the disclosed entry is labelled as another one")
    return body


def _decode(text: str) -> bytes:
    """One spelling only: the last character of base64 has bits that a lax decoder ignores."""
    data = b64decode(text, validate=True)
    if b64encode(data).decode() != text:
        raise ValueError("not canonical base64")
    return data
