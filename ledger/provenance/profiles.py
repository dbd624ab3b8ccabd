"""What the law of a place asks of an AI-made clip, as data: what it must say of itself, and what must be seen in it.

An app asks for profiles by id, the operator may set some as a floor, and a remix keeps those of the clip it is made
from; :meth:`Marking.beside` only ever adds. What was applied is in the permit, the release entry and the manifest.

Guarantees, each held by a test on a stamped clip:

- whatever a profile lists in `says` stands in the signed `org.countersign.generation` assertion of the manifest;
- where it has a `label`, words in the language it asks for stay in the picture, from its first frame to its last;
- where it is `aigc`, the file's index carries the key `AIGC` with the seven fields of GB 45438-2025.

| id         | rests on                                                                    | seen in the picture      |
|------------|-----------------------------------------------------------------------------|--------------------------|
| `eu`       | AI Act, Regulation (EU) 2024/1689, Art. 50(2), (4); code of practice 2026    | "AI" mark and words      |
| `us-ca`    | California SB 942 as amended by AB 853, Bus. & Prof. Code §22757.3           | nothing                  |
| `cn`       | Labelling Measures of 14 March 2025 and GB 45438-2025                        | Chinese words, ≥ 5 %     |
| `in`       | IT Rules 2021 as amended on 10 February 2026, G.S.R. 120(E), rule 3(3)       | words, ≥ 6 %             |
| `in-draft` | the draft of these rules of 22 October 2025                                 | words on ≥ 10 % of it    |

What is known and what is not (read in November 2026, from reports of these texts and from programs that follow them;
none of the official texts could be opened from here, so a lawyer has to compare before anyone relies on it):

- EU: the code of 10 June 2026 has three official icons, and lets others be used that keep the capitals "AI" as what is
  seen first. The mark drawn here is ours, *not* an official icon. Top right is the code's suggestion, and where a label
  begins here. The exceptions for evident art and for law enforcement are for the deployer to claim.
- California: latent disclosure only; a *visible* one has to be offered to the user, which `visible_label` does.
- China: sizes and seconds are as widely reported. That `AIGC` is a key in the metadata of the MP4 (`moov/udta/meta`)
  is what public programs do that follow the practice guide TC260-PG-20258A. `ReservedCode1` is the producer's own: the
  payload of our mark. The propagator's fields stay empty for whoever distributes the clip, who breaks the manifest's
  binding by filling them in.
- India: the final rules ask for *prominent* labels and dropped the share of a tenth that the draft of 2025 had; a draft
  of April 2026 asks for a label that stays throughout, which ours does. Whether that is law by now is not known here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, get_args

from pydantic import Field, field_validator

from ledger.consent.grant import Strict
from ledger.provenance.label import Label, Language

ProfileId = Literal["eu", "us-ca", "cn", "in", "in-draft"]
AIGC: Final = "AIGC"
"""The key in the file's metadata (GB 45438-2025, annex E, as reported)."""

_DISCLOSED: Final = ("id", "provider", "system", "version", "created")
"""SB 942 §22757.3(b): who, with what, in which version, when, and a unique identifier."""


@dataclass(frozen=True, slots=True)
class Profile:
    """`says`: members of the generation assertion. `label`: what the picture must show, whatever else is asked for."""

    id: ProfileId
    law: str
    says: tuple[str, ...]
    label: Label | None = None
    aigc: bool = False


PROFILES: Final[Mapping[ProfileId, Profile]] = {
    profile.id: profile
    for profile in (
        Profile(
            "eu",
            "Regulation (EU) 2024/1689, Article 50; code of practice of 10 June 2026",
            (*_DISCLOSED, "synthetic"),
            Label((), least_height=0.05),
        ),
        Profile("us-ca", "California Business and Professions Code §22757.3 (SB 942, AB 853)", _DISCLOSED),
        Profile(
            "cn",
            "Measures for labelling AI-generated content; GB 45438-2025",
            (*_DISCLOSED, "synthetic"),
            Label(("zh",), least_height=0.05),
            aigc=True,
        ),
        Profile(
            "in",
            "Information Technology (Intermediary Guidelines) Rules 2021, rule 3(3), as amended by G.S.R. 120(E)",
            (*_DISCLOSED, "synthetic"),
            Label((), least_height=0.06),
        ),
        Profile(
            "in-draft",
            "draft of 22 October 2025 to amend the Information Technology (Intermediary Guidelines) Rules 2021",
            (*_DISCLOSED, "synthetic"),
            Label((), least_height=0.06, least_area=0.10),
        ),
    )
}


class Marking(Strict):
    """How a clip has to be marked, beyond what every clip is. Part of the permit, so that no step can lose it."""

    profiles: Annotated[tuple[ProfileId, ...], Field(max_length=len(get_args(ProfileId)))] = ()
    visible_label: bool = False
    language: Language = "en"

    @field_validator("profiles")
    @classmethod
    def _each_once_in_order(cls, profiles: tuple[ProfileId, ...]) -> tuple[ProfileId, ...]:
        return tuple(one for one in PROFILES if one in profiles)

    def beside(self, *others: "Marking") -> "Marking":
        """All that any of them asks for; nothing is lost. The language is this one's."""
        every = (self, *others)
        return Marking(
            profiles=tuple(dict.fromkeys(profile for one in every for profile in one.profiles)),
            visible_label=any(one.visible_label for one in every),
            language=self.language,
        )

    @property
    def label(self) -> Label | None:
        """The one label that satisfies all: the words of each, the largest size any of them asks for."""
        wanted = [PROFILES[one].label for one in self.profiles]
        labels = [one for one in wanted if one is not None]
        if self.visible_label:
            labels.append(Label((self.language,)))
        if not labels:
            return None
        languages = [language for one in labels for language in one.languages or (self.language,)]
        return Label(
            tuple(dict.fromkeys(languages)),
            least_height=max(one.least_height for one in labels),
            least_area=max(one.least_area for one in labels),
        )

    @property
    def says(self) -> frozenset[str]:
        return frozenset(member for one in self.profiles for member in PROFILES[one].says)

    def metadata(self, *, provider: str, video_id: str, payload: str) -> dict[str, str]:
        """What the file's own index must carry, by key."""
        if not any(PROFILES[one].aigc for one in self.profiles):
            return {}
        fields = {
            "Label": "1",  # AI-generated, and known to be
            "ContentProducer": provider,
            "ProduceID": video_id,
            "ReservedCode1": payload,
            "ContentPropagator": "",
            "PropagateID": "",
            "ReservedCode2": "",
        }
        return {AIGC: json.dumps(fields, ensure_ascii=False, separators=(",", ":"))}

    def applied(self) -> dict[str, object]:
        """As the release entry and the manifest name it."""
        label = self.label
        return {
            "profiles": list(self.profiles),
            "visible_label": list(label.languages) if label is not None else [],
        }


UNMARKED: Final = Marking()
"""As every clip is: a manifest and a mark, and nothing that is seen."""
