"""Every sentence a verdict is made of, by its id: one for each state, and one for each thing that was found.

Ids are for programs and translators, and stay; sentences may be put better. `{name}` stands for a value that the
verdict carries beside the sentence. No sentence says that something is true, real or safe: a verdict says what was
signed, recorded and detected.
"""

from typing import Final, Literal, get_args

from ledger.provenance.trust import DEVELOPMENT

State = Literal[
    "intact",
    "recovered",
    "altered",
    "consent_withdrawn",
    "consent_unknown",
    "taken_down",
    "contradiction",
    "mark_without_match",
    "trusted_elsewhere",
    "unknown_signer",
    "broken_manifest",
    "no_evidence",
]
"""What it comes to, as one word. Of several that hold, the first of `contradiction`, `taken_down`,
`consent_withdrawn`, `consent_unknown` is said."""
STANDS: Final = frozenset[State]({"intact", "recovered"})
"""Released here, as far as the file goes, and nobody has taken consent to it back."""

STATES: Final[dict[State, str]] = {
    "intact": "This is an AI-generated clip, exactly as it was released here, and no consent to it was taken back.",
    "recovered": "This file shows an AI-generated clip that was released here, and no consent to it was taken back. "
    "The file is not the one we signed: what else it shows is not covered.",
    "altered": "This file carries a signature that we trust, but it was changed, or saved again, after it was signed.",
    "consent_withdrawn": "This comes from an AI-generated clip, and somebody in it took their consent back: "
    "it should no longer be shown.",
    "consent_unknown": "This comes from an AI-generated clip that was released here, but whether consent to it "
    "stands now cannot be told.",
    "taken_down": "This comes from an AI-generated clip that was taken down: it should no longer be shown.",
    "contradiction": "This file contradicts itself: nothing it says about where it comes from can be relied on.",
    "mark_without_match": "This file carries a mark of ours, but no clip that was released here belongs to it.",
    "trusted_elsewhere": "This file is signed by somebody we trust, but it is no clip that was released here.",
    "unknown_signer": "This file is signed by somebody we do not know, and it is no clip that was released here.",
    "broken_manifest": "This file carries a signature that does not hold, and nothing else says where it comes from.",
    "no_evidence": "No evidence of where this file comes from was found. That does not mean it is real, or that it "
    "is not.",
}

SENTENCES: Final[dict[str, str]] = {
    "manifest.trusted": "It is signed by {signer}, on {at}.",
    "manifest.undated": "It is signed by {signer}; when, no authority says.",
    "manifest.unknown": "It is signed, but by nobody we know: nothing the signature says is believed.",
    "manifest.broken": "The signed statement in it is damaged or was tampered with: nothing it says is believed.",
    "manifest.revoked": "It is signed with a key that was ours and had been taken back: nothing it says is believed.",
    "manifest.none": "It carries no signed statement of where it comes from.",
    "manifest.development": f"{DEVELOPMENT}",
    "manifest.ingredients": "What it says it was made from did not hold when it was signed.",
    "bytes.bound": "Its bytes are the ones that were signed.",
    "bytes.other": "The signature was made over other bytes: the file was changed or saved again since, or the "
    "signature was copied here.",
    "bytes.unsigned": "Nothing signed says what its bytes should be.",
    "via.embedded": "The ledger's record was found through the signed statement in the file.",
    "via.watermark": "The ledger's record was found through the invisible mark.",
    "via.fingerprint": "The ledger's record was found by how the pictures look.",
    "via.none": "No record of it was found in the ledger.",
    "mark.picture": "The pictures carry the mark of a released clip{where}.",
    "mark.sound": "The sound carries the mark of a released clip{where}.",
    "mark.unmatched": "A mark of ours was found, but the ledger knows no released clip by it.",
    "looks.alike": "The pictures look like those of that clip, for {seconds} of {of} seconds.",
    "looks.same": "The pictures look like those of the marked clip.",
    "clips.several": "Parts of several released clips were found in it ({count}); the one that least may be shown "
    "is told of.",
    "ledger.released": "The clip was released on {at}.",
    "ledger.checks": "Looked at before its release: {checks}.",
    "ledger.unchecked": "What was looked at before its release is no longer on record.",
    "then.agreed": "Everyone shown in the clip agreed when it was made.",
    "then.unknown": "What was decided when the clip was made is not on record.",
    "now.standing": "Everyone shown in the clip still agrees.",
    "now.expired": "The permission to make more such clips ended on {at}; this one was made before.",
    "now.revoked": "On {at}, somebody shown took back their permission for new clips; this one was made before.",
    "now.withdrawn": "Somebody shown took back their consent on {at}: the clip should no longer be shown.",
    "now.erased": "Somebody shown has since had their likeness erased: the clip should no longer be shown.",
    "now.nobody_shown": "The clip shows nobody's enrolled likeness.",
    "now.unknown": "Whether consent to the clip stands now cannot be told.",
    "down.taken": "It was taken down on {at}.",
    "contradiction.footage": "The signed statement names a clip of ours, but was made for other footage.",
    "contradiction.clips": "The signed statement names one clip and the mark another: one of them was copied here.",
    "contradiction.looks": "It carries the mark of a clip that it does not look like: the mark was copied here.",
}

assert set(STATES) == set(get_args(State))
