"""What happened to a person's likeness, in their own words: a title and a detail for each kind of entry.

Everything said is in the entry, but the names of those it names by id. Names that others chose and what they typed
are shown as :mod:`ledger.consent.words` lets them stand in our sentences.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.owners.reasons import told
from gateway.site.words import spoken
from ledger.consent.grant import parse_grant
from ledger.consent.words import date_of, language_of, name_of, quoted, sentence
from ledger.store.journal import Opened

_TEXTS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "en": {
        "enrolment": ("Your likeness was enrolled", "{operator} saw you and vouched for you"),
        "enrolment/filmed": (
            "Your likeness came in by a film",
            "{operator} looked at it and vouched for you. It is not used for a day. If it was not you who filmed, say so",
        ),
        "grant": ("A permission was given", "{sentence}"),
        "grant/passed_on": ("A permission of yours was passed on", "{sentence}"),
        "revocation": (
            "A permission was taken back",
            "Nothing new is made with it; what is already out stays",
        ),
        "revocation/withdraw_all": (
            "A permission was taken back",
            "Nothing new is made with it, and everything made with it is withdrawn",
        ),
        "decision/allowed": ("{app} may make a video with you", "{prompt}"),
        "decision/refused": ("{app} was refused a video with you", "{prompt}"),
        "returned": ("A video with you was not made", "{reason}"),
        "draft": ("A video with you waits for your word", "It waits until {until}, then it is destroyed"),
        "approval/yes": ("A video with you was approved", "{by}"),
        "approval/no": ("A video with you was turned down", "{by}"),
        "release": ("{app} published a video with you", "{prompt}"),
        "sighting/pictures": ("{app} sent a picture that shows you", "{outcome}"),
        "sighting/clip": ("A video that {app} asked for showed you", "{outcome}"),
        "sighting/voices": ("A video that {app} asked for had your voice", "{outcome}"),
        "review/held": ("People here look at a video with you first", "Nobody else sees it until they have"),
        "review/looked": ("{operator} looked at a video with you", "To decide whether it may go on"),
        "review/passed": ("{operator} let a video with you pass", "{note}"),
        "review/refused": ("{operator} did not let a video with you pass", "{note}"),
        "review/appealed": ("{app} asked for another look at a video with you", ""),
        "takedown": ("Somebody gave notice about a video with you", "{action}"),
        "audit": ("{auditor} looked at what is recorded about you", "Asked for: {asked}"),
        "account": ("Your account was opened", ""),
        "device/added": ("A way to sign in was added", "{how}"),
        "device/removed": ("A way to sign in was removed", "{how}"),
        "age": ("Your age was confirmed", "By {issuer}"),
        "guardian/owner/yes": ("{name} answers for you", ""),
        "guardian/owner/no": ("{name} no longer answers for you", ""),
        "guardian/guardian/yes": ("You answer for {name}", ""),
        "guardian/guardian/no": ("You no longer answer for {name}", ""),
        "estate/owner/yes": ("{name} looks after your likeness", ""),
        "estate/owner/no": ("{name} no longer looks after your likeness", ""),
        "estate/executor/yes": ("You look after the likeness of {name}", ""),
        "estate/executor/no": ("You no longer look after the likeness of {name}", ""),
        "handover": ("You are of age, and your likeness is yours alone", ""),
        "group/yes": ("{name} was let into your circle", ""),
        "group/no": ("{name} was taken out of your circle", ""),
        "block/yes": ("{name} was blocked", "Whatever a permission says, they can never use your likeness"),
        "block/no": ("{name} is no longer blocked", "They can use your likeness if a permission says so"),
        "deletion": ("Something kept about you was destroyed", "{what}: {count}"),
        "announcement": (
            "Something kept about you will be destroyed",
            "{what}, on {until}, unless you decide",
        ),
        "erasure": ("Everything about you was erased", ""),
        "": ("Something about you was recorded", ""),
        "by/owner": ("By you", ""),
        "by/guardian": ("By your guardian", ""),
        "by/executor": ("By your executor", ""),
        "how/signed": ("With a key you already had", ""),
        "how/recovery": ("With a recovery code", ""),
        "how/session": ("While you were signed in", ""),
        "asked/uses": ("everything recorded about you", ""),
        "asked/your enrolment film": ("the film you enrolled with", ""),
        "action/received": ("nothing yet, somebody here looks at it", ""),
        "action/held": ("the video is held back while somebody here looks at it", ""),
        "action/removed": ("the video was taken down", ""),
        "action/kept": ("the video stays", ""),
        "action/restored": ("the video is back", ""),
        "action/withdrawn": ("the notice was taken back", ""),
        "action/appealed_by_app": ("the app asked for another decision", ""),
        "action/appealed_by_notifier": ("whoever gave notice asked for another decision", ""),
        "outcome/refused": (
            "You had not agreed to that, so it was refused. Nobody told the app who you are",
            "",
        ),
        "outcome/used": ("You had not agreed to that, and it was not refused: ask us why", ""),
        "what/film": ("The film of an enrolment", ""),
        "what/draft": ("A draft that was not released", ""),
        "what/prompt": ("The words of a request that made nothing", ""),
        "what/likeness": ("Your likeness, kept since you were a child", ""),
    },
    "de": {
        "enrolment": ("Dein Abbild wurde aufgenommen", "{operator} hat dich gesehen und bürgt für dich"),
        "enrolment/filmed": (
            "Dein Abbild kam durch einen Film herein",
            "{operator} bürgt für dich. Einen Tag lang wird es nicht genutzt. Wenn nicht du gefilmt hast, sag Bescheid",
        ),
        "grant": ("Eine Erlaubnis wurde gegeben", "{sentence}"),
        "grant/passed_on": ("Eine Erlaubnis von dir wurde weitergegeben", "{sentence}"),
        "revocation": (
            "Eine Erlaubnis wurde zurückgenommen",
            "Damit entsteht nichts Neues; was schon erschienen ist, bleibt",
        ),
        "revocation/withdraw_all": (
            "Eine Erlaubnis wurde zurückgenommen",
            "Damit entsteht nichts Neues, und alles damit Gemachte wird zurückgezogen",
        ),
        "decision/allowed": ("{app} darf ein Video mit dir machen", "{prompt}"),
        "decision/refused": ("{app} wurde ein Video mit dir verweigert", "{prompt}"),
        "returned": ("Ein Video mit dir ist nicht entstanden", "{reason}"),
        "draft": ("Ein Video mit dir wartet auf dein Wort", "Es wartet bis {until}, dann wird es vernichtet"),
        "approval/yes": ("Ein Video mit dir wurde freigegeben", "{by}"),
        "approval/no": ("Ein Video mit dir wurde abgelehnt", "{by}"),
        "release": ("{app} hat ein Video mit dir veröffentlicht", "{prompt}"),
        "sighting/pictures": ("{app} hat ein Bild geschickt, das dich zeigt", "{outcome}"),
        "sighting/clip": ("Ein Video, um das {app} gebeten hat, zeigte dich", "{outcome}"),
        "sighting/voices": ("In einem Video, um das {app} gebeten hat, war deine Stimme", "{outcome}"),
        "review/held": (
            "Menschen bei uns sehen sich erst ein Video mit dir an",
            "Bis dahin sieht es sonst niemand",
        ),
        "review/looked": (
            "{operator} hat ein Video mit dir angesehen",
            "Um zu entscheiden, ob es weiter darf",
        ),
        "review/passed": ("{operator} ließ ein Video mit dir weiter", "{note}"),
        "review/refused": ("{operator} ließ ein Video mit dir nicht weiter", "{note}"),
        "review/appealed": ("{app} bat um einen zweiten Blick auf ein Video mit dir", ""),
        "takedown": ("Jemand hat ein Video mit dir gemeldet", "{action}"),
        "audit": ("{auditor} hat angesehen, was über dich aufgezeichnet ist", "Gefragt: {asked}"),
        "account": ("Dein Konto wurde eröffnet", ""),
        "device/added": ("Ein Weg, dich anzumelden, kam dazu", "{how}"),
        "device/removed": ("Ein Weg, dich anzumelden, fiel weg", "{how}"),
        "age": ("Dein Alter wurde bestätigt", "Von {issuer}"),
        "guardian/owner/yes": ("{name} steht für dich ein", ""),
        "guardian/owner/no": ("{name} steht nicht mehr für dich ein", ""),
        "guardian/guardian/yes": ("Du stehst für {name} ein", ""),
        "guardian/guardian/no": ("Du stehst nicht mehr für {name} ein", ""),
        "estate/owner/yes": ("{name} kümmert sich um dein Abbild", ""),
        "estate/owner/no": ("{name} kümmert sich nicht mehr um dein Abbild", ""),
        "estate/executor/yes": ("Du kümmerst dich um das Abbild von {name}", ""),
        "estate/executor/no": ("Du kümmerst dich nicht mehr um das Abbild von {name}", ""),
        "handover": ("Du bist volljährig, und dein Abbild gehört dir allein", ""),
        "group/yes": ("{name} kam in deinen Kreis", ""),
        "group/no": ("{name} ist nicht mehr in deinem Kreis", ""),
        "block/yes": (
            "{name} wurde gesperrt",
            "Was eine Erlaubnis auch sagt: dein Abbild bleibt ihnen verwehrt",
        ),
        "block/no": (
            "{name} ist nicht mehr gesperrt",
            "Wenn eine Erlaubnis es sagt, darf dein Abbild verwendet werden",
        ),
        "deletion": ("Etwas, das wir über dich hatten, wurde vernichtet", "{what}: {count}"),
        "announcement": (
            "Etwas, das wir über dich haben, wird vernichtet",
            "{what}, am {until}, wenn du nicht anders entscheidest",
        ),
        "erasure": ("Alles über dich wurde gelöscht", ""),
        "": ("Etwas über dich wurde aufgezeichnet", ""),
        "by/owner": ("Von dir", ""),
        "by/guardian": ("Von dem Menschen, der für dich einsteht", ""),
        "by/executor": ("Von dem Menschen, der sich um dein Abbild kümmert", ""),
        "how/signed": ("Mit einem Schlüssel, den du schon hattest", ""),
        "how/recovery": ("Mit einem Wiederherstellungscode", ""),
        "how/session": ("Während du angemeldet warst", ""),
        "asked/uses": ("alles, was über dich aufgezeichnet ist", ""),
        "asked/your enrolment film": ("der Film deiner Aufnahme", ""),
        "action/received": ("noch nichts, hier sieht es sich jemand an", ""),
        "action/held": ("das Video wird zurückgehalten, bis es sich hier jemand angesehen hat", ""),
        "action/removed": ("das Video wurde heruntergenommen", ""),
        "action/kept": ("das Video bleibt", ""),
        "action/restored": ("das Video ist wieder da", ""),
        "action/withdrawn": ("die Meldung wurde zurückgenommen", ""),
        "action/appealed_by_app": ("die App hat um eine weitere Entscheidung gebeten", ""),
        "action/appealed_by_notifier": ("wer es gemeldet hat, hat um eine weitere Entscheidung gebeten", ""),
        "outcome/refused": (
            "Das hattest du nicht erlaubt, also wurde es verweigert. Wer du bist, hat der App niemand gesagt",
            "",
        ),
        "outcome/used": ("Das hattest du nicht erlaubt, und verweigert wurde es nicht: frag uns, warum", ""),
        "what/film": ("Der Film einer Aufnahme", ""),
        "what/draft": ("Ein Entwurf, der nicht erschienen ist", ""),
        "what/prompt": ("Die Worte einer Anfrage, aus der nichts wurde", ""),
        "what/likeness": ("Dein Abbild aus der Zeit, als du ein Kind warst", ""),
    },
}


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells one person's entries. `app`, `person`: the name of an id, or None where there is none any more."""

    language: str
    app: Callable[[str], str | None]
    person: Callable[[str], str | None]

    def tell(self, entry: Opened, *, app: str, prompt: str | None) -> tuple[str, str]:
        """Title and detail. `app`: the name of the app an entry about a clip belongs to."""
        body, texts = entry.body, _TEXTS[language_of(self.language)]
        title, detail = texts.get(self._key(entry), texts[""])
        known = {
            "app": name_of(app, self.language),
            "prompt": quoted(prompt, self.language) if prompt else "",
            **self._values(entry, body),
        }
        return title.format_map(known), detail.format_map(known)

    def _key(self, entry: Opened) -> str:  # noqa: C901, PLR0911, PLR0912 — one arm for each kind that says more than one thing
        body = entry.body
        match entry.kind:
            case "enrolment" if body.get("filmed"):
                return "enrolment/filmed"
            case "grant" if body["grant"].get("parent") is not None:
                return "grant/passed_on"
            case "revocation" if body["effect"] == "withdraw_all":
                return "revocation/withdraw_all"
            case "decision":
                return "decision/allowed" if body["allowed"] else "decision/refused"
            case "approval":
                return _either("approval", body["approved"])
            case "sighting":
                return f"sighting/{body['where']}"
            case "device":
                return f"device/{body['change']}"
            case "guardian":
                return _either(f"guardian/{entry.opening.label}", body["standing"])
            case "estate":
                return _either(f"estate/{entry.opening.label}", body["standing"])
            case "group":
                return _either("group", body["member"])
            case "block":
                return _either("block", body["blocked"])
            case "review":
                return f"review/{body['action']}"
            case kind:
                return kind

    def _values(self, entry: Opened, body: Mapping[str, Any]) -> Mapping[str, str]:  # noqa: C901, PLR0911, PLR0912
        match entry.kind:
            case "enrolment":
                return {"operator": self._name(str(body["enrolment"].get("operator", "")))}
            case "grant":
                return {"sentence": self._sentence(body["grant"])}
            case "returned":
                return {"reason": self._reasons(body["reasons"])}
            case "sighting":
                return {"outcome": self._known("outcome", body["outcome"])}
            case "draft":
                return {"until": self._day(str(body["until"]))}
            case "approval":
                return {"by": self._text(f"by/{body.get('role', 'owner')}")}
            case "review":
                note = str(body.get("note", ""))
                said = quoted(note, self.language) if note else ""
                return {"operator": self._name(str(body.get("operator", ""))), "note": said}
            case "takedown":
                return {"action": self._known("action", body["action"])}
            case "audit":
                return {
                    "auditor": self._name(str(body["auditor"])),
                    "asked": self._known("asked", body["asked"]),
                }
            case "device":
                return {"how": self._text(f"how/{body['how']}")}
            case "age":
                return {"issuer": str(body["issuer"])}
            case "guardian":
                other = "guardian" if entry.opening.label == "owner" else "ward"
                return {"name": self._name(self.person(str(body["guardianship"][other])))}
            case "estate":
                about = body["executor"] if entry.opening.label == "owner" else body.get("person_id", "")
                return {"name": self._name(self.person(str(about)))}
            case "group":
                return {"name": self._name(self.person(str(body["person_id"])))}
            case "block":
                target = str(body["target"])
                return {"name": self._name(self.app(target) or self.person(target))}
            case "deletion":
                return {"what": self._what(body), "count": str(body["count"])}
            case "announcement":
                return {"what": self._what(body), "until": self._day(str(body["until"]))}
            case _:
                return {}

    def _reasons(self, reasons: Iterable[Mapping[str, str]]) -> str:
        return " ".join(spoken(one["reason"]) for one in told(reasons, self.language))

    def _sentence(self, value: Mapping[str, Any]) -> str:
        grant = parse_grant(value)
        grantee = grant.grantee
        name = self.app(grantee.id) if grantee.type == "app" else self.person(grantee.id)
        return sentence(grant, name or "")

    def _name(self, name: str | None) -> str:
        return name_of(name or "", self.language)

    def _day(self, moment: str) -> str:
        return date_of(datetime.fromisoformat(moment), self.language)

    def _what(self, body: Mapping[str, Any]) -> str:
        return self._known("what", body["what"])

    def _known(self, kind: str, said: object) -> str:
        """A word of ours in the reader's language; another as it stands."""
        return self._text(f"{kind}/{said}") or quoted(str(said), self.language)

    def _text(self, key: str) -> str:
        return _TEXTS[language_of(self.language)].get(key, ("", ""))[0]


def _either(kind: str, holds: object) -> str:
    return f"{kind}/{'yes' if holds else 'no'}"
