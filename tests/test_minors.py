"""Every rule for minors (design §5): where each is enforced, and the test that fails where it is not.

:data:`RULES` is the table, and two tests hold it: to the policies, so that no rule about minors stands beside it and
none in it is gone; and to the tests it names. What stands here are the rules at the gate, at a finished clip and over
HTTP that no other file has; what others have is named where it is.
"""

import ast
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import retention
from gateway.owners import accounts
from generator.stamp import Held
from ledger.consent import authority, fold
from ledger.provenance import media
from live import PATIENCE_S, STRANGER, Owner, Site, collins_picture, ended, hopper_picture, wanted
from safety import clearing, decision, frames, writing
from safety.chain import Cleared, RawClip, raw_clip
from safety.faces import OutputCheck
from safety.frames import Shown
from safety.gate import Denied, Gate
from safety.policy.cedar import INVARIANTS, Policies, read
from safety.policy.engine import Engine
from safety.writing import Written
from studio import Studio
from test_activation import Ruled, opened
from test_family import adult, asked, child, cosigns, guard, waiting
from test_gate import ids, refused
from test_gate_consent import granted, ward
from test_takedowns import confirmed, face
from world import POLICIES, Someone, check_log

pytest_plugins = ["live"]
TESTS = Path(__file__).resolve().parent
MINORS = Policies(read(POLICIES))


@dataclass(frozen=True)
class Rule:
    """by: policies and invariants by id, and functions. tests: `file::test`; without a file, in this one."""

    says: str
    by: tuple[Any, ...]
    tests: tuple[str, ...]


RULES = (
    Rule(
        "unknown age is treated as a minor's",
        (fold.Standing.minor, fold.Age.minor),
        (
            "test_family::test_nobody_under_age_or_of_unknown_age_signs_alone",
            "test_age::test_somebody_of_unknown_age_is_a_minor_until_the_issuer_says_otherwise",
            "test_of_unknown_age_somebody_is_shown_as_a_minor_is",
        ),
    ),
    Rule(
        "of two words on somebody's age the one for a minor counts",
        (fold.Standing.minor,),
        ("test_consent_laws::test_of_two_birth_dates_the_one_of_a_minor_counts",),
    ),
    Rule(
        "a guardian signs the same bytes",
        ("minors.guardian", "never.a_minor_alone", authority.check_signatures),
        (
            "test_family::test_a_minor_and_a_guardian_sign_the_same_bytes",
            "test_gate_consent::test_a_guardian_who_is_one_no_longer_agrees_no_longer",
        ),
    ),
    Rule(
        "only the face of a minor is used",
        ("minors.voice", "never.a_minor_alone", authority.check_minor),
        (
            "test_family::test_what_no_guardian_may_sign_is_refused_before_it_is_asked",
            "test_gate_consent::test_a_minors_grant_holds_once_a_guardian_signed_it_and_approves_each_clip",
        ),
    ),
    Rule(
        "a guardian approves every clip before it goes out",
        ("minors.approval", "never.unapproved", fold.Standing.approved),
        (
            "test_a_childs_clip_goes_out_at_the_guardians_word_and_not_at_the_childs",
            "test_drafts::test_a_minor_s_clip_needs_the_guardian_s_word",
        ),
    ),
    Rule(
        "never with anything sexual, violent or romantic in the request, by context or by score",
        ("minors.context", "never.a_minor_in_danger", "prohibited.sexual_likeness"),
        ("test_words_that_only_read_as_romantic_or_violent_show_no_child",),
    ),
    Rule(
        "nor in what is shown, written or said in the finished clip",
        ("minors.clip", "never.a_minor_in_a_dangerous_clip"),
        (
            "test_a_childs_clip_that_turns_out_romantic_or_violent_is_not_let_out",
            "test_an_adults_clip_may_be_what_a_childs_may_not",
        ),
    ),
    Rule(
        "never turned into a child, whatever somebody's birth date says",
        ("clear.minor", "never.a_childs_likeness", "prohibited.child_likeness", "never.an_unseen_clip"),
        ("test_an_adult_who_looks_like_a_child_in_the_clip_is_not_let_out",),
    ),
    Rule(
        "an apparent minor is let show only where minors alone are granted for",
        ("clear.minor", clearing._apparent_minors),
        (
            "test_a_child_may_look_like_one_in_a_clip_of_children_alone",
            "test_an_adult_who_looks_like_a_child_in_the_clip_is_not_let_out",
        ),
    ),
    Rule(
        "not offered to strangers",
        ("minors.strangers", "never.a_minor_alone", authority.check_minor),
        (
            "test_family::test_what_no_guardian_may_sign_is_refused_before_it_is_asked",
            "test_a_clip_of_a_child_is_not_for_everyone_to_see",
        ),
    ),
    Rule(
        "not shown beside a stranger, whoever looked at the clip",
        ("minors.beside_a_stranger", "never.a_minor_in_a_dangerous_clip"),
        (
            "test_a_stranger_beside_a_child_is_not_let_out_and_not_held_for_reviewers",
            "test_a_clip_in_which_a_stranger_stands_beside_a_child_is_refused",
        ),
    ),
    Rule(
        "an adult beside a minor needs the scope of all guardians of theirs",
        ("minors.with_adults", "never.a_minor_beside_a_stranger", decision.cameo_facts),
        (
            "test_family::test_a_minor_is_shown_with_adults_only_as_far_as_the_guardian_says",
            "test_gate_consent::test_a_minor_is_shown_beside_a_stranger_only_if_every_guardian_allows_it",
            "test_a_remix_of_an_adults_clip_is_a_pairing_too",
        ),
    ),
    Rule(
        "a minor's face in pictures sent is a stranger's where no guardian agreed",
        ("prohibited.unknown_face", "never.a_stranger", Gate._sent),
        ("test_a_childs_picture_is_no_way_round_their_guardian",),
    ),
    Rule(
        "what a minor would rather not be shown with",
        ("consent.preference", "clear.preference", "never.beyond_agreed_contexts"),
        ("test_a_childs_wishes_count_in_the_words_and_in_the_clip",),
    ),
    Rule(
        "a guardian has a child's face never generated, without an account",
        ("prohibited.do_not_generate", "clear.do_not_generate"),
        ("test_a_parent_puts_a_childs_face_on_the_register",),
    ),
    Rule(
        "expiry within a year and at majority, with fresh consent",
        ("standing.inactive", authority.check_minor, fold.Standing.lapsed, fold.Standing.in_use),
        (
            "test_family::test_at_18_the_likeness_rests_until_its_owner_takes_it_over",
            "test_gate_consent::test_a_person_who_comes_of_age_decides_anew",
        ),
    ),
    Rule(
        "or deletion",
        (retention,),
        ("test_retention::test_the_likeness_of_a_child_who_came_of_age_goes_only_after_they_were_told",),
    ),
    Rule(
        "under 13: no account",
        (accounts,),
        ("test_accounts::test_nobody_under_13_has_an_account_and_another_birthday_is_not_asked_for",),
    ),
    Rule(
        "no grant overrides any of it",
        ("never.a_minor_alone", "never.a_minor_in_danger", "never.a_minor_in_a_dangerous_clip"),
        (
            "test_consent_laws::test_no_grant_overrides_a_rule_for_minors",
            "test_no_rule_for_minors_asks_what_a_grant_allows",
        ),
    ),
)


# ── the table ─────────────────────────────────────────────────────────────────────────────────────────────


@cache
def named_tests(name: str) -> frozenset[str]:
    tree = ast.parse((TESTS / f"{name}.py").read_text())
    return frozenset(one.name for one in tree.body if isinstance(one, ast.FunctionDef))


def test_the_table_names_every_policy_about_minors_and_none_that_is_not_there() -> None:
    ids = {one.id for one in MINORS.all}
    invariants = {part.split('"')[1] for part in (POLICIES / INVARIANTS).read_text().split("@id(")[1:]}
    named = {by for rule in RULES for by in rule.by if isinstance(by, str)}
    assert named <= ids | invariants
    assert {one for one in ids if one.startswith("minors.")} <= named
    assert {one for one in invariants if "minor" in one or "child" in one} - named == {"never.sexual_minors"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.says)
def test_every_test_that_the_table_names_is_there(rule: Rule) -> None:
    assert rule.by
    assert rule.tests
    for name in rule.tests:
        file, _, test = name.rpartition("::")
        assert test in named_tests(file or Path(__file__).stem), name


def test_no_rule_for_minors_asks_what_a_grant_allows() -> None:
    """Of a grant they read only what makes them stricter: to whom it is offered, for whose eyes, approved or not."""
    text = (POLICIES / "minors.cedar").read_text()
    asked_of_grants = {
        part.split()[0].rstrip(";)").partition(".")[2]
        for part in text.split("resource.")[1:]
        if part.startswith("grant.")
    }
    assert asked_of_grants == {"approval", "offered_to_everyone", "audience"}
    assert "unless" not in text.replace("only if", "")


# ── at the gate, and at a finished clip ───────────────────────────────────────────────────────────────────


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Ruled]:
    made = opened(tmp_path)
    yield made
    check_log(made.ledger)
    made.ledger.close()


@dataclass
class Seen:
    """What the checks of a finished clip find, whatever is in it."""

    patch: pytest.MonkeyPatch

    def shows(self, *people: Someone, strangers: int = 0, **found: Any) -> None:
        faces = dict.fromkeys((one.cameo_id for one in people), 3)
        check = OutputCheck(
            5, len(people), faces, ((0.5, (1, 9, 9, 1)),) * strangers, (), strangers=strangers
        )

        def checked(sampled: Iterable[Any], *_: Any) -> OutputCheck:
            assert len(list(sampled)) > 0
            return check

        self.patch.setattr(clearing, "check_output", checked)
        self.patch.setattr(frames, "look", lambda *_, **__: Shown(**found))

    def reads(self, *lines: str) -> None:
        self.patch.setattr(writing, "read", lambda *_, **__: Written(lines))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(monkeypatch)


def cleared(world: Ruled, *people: Someone, app: Any, **changes: Any) -> Cleared | Denied:
    """A clip of these people, as a closed model makes it, once it was looked at."""
    allowed = world.allow(app, *people, **changes)
    path = world.home / "raw.mp4"
    if not path.exists():
        media.write_pattern(path)
    raw: RawClip = raw_clip(allowed, path, backend="countersign-reference", version="1", closed=True)
    return world.gate.clear(raw, at=world.at)


def family(world: Ruled, *, contexts: tuple[str, ...] = (), **scope: Any) -> tuple[Any, Someone, Someone]:
    """An app, a child who granted it something, and the guardian who signed it too."""
    app, mum = world.app(), world.enrol()
    kid = ward(world, mum, **scope)
    granted(world, app, kid, guardian=mum, allowed_contexts=list(contexts))
    return app, kid, mum


@pytest.mark.slow
def test_words_that_only_read_as_romantic_or_violent_show_no_child(world: Ruled) -> None:
    app, kid, _ = family(world)
    for prompt in (
        "a tender kiss at sunset",
        "they hold hands on a romantic first date",
        "a gunfight in a saloon",
        "two boxers beat each other bloody",
    ):
        found = refused(world, world.request(app, kid, prompt=prompt))
        assert "minors.context" in found, (prompt, found)


@pytest.mark.slow
def test_of_unknown_age_somebody_is_shown_as_a_minor_is(world: Ruled) -> None:
    """No grant of theirs counts alone; and whoever stands beside them is an adult beside a minor."""
    app, mum, eve = world.app(), world.enrol(), world.enrol()
    somebody = world.enrol(born_on=None)
    world.guardian(somebody, mum)
    granted(world, app, somebody, guardian=mum)
    world.grant(eve, app)
    assert refused(world, world.request(app, somebody, eve)) == {"minors.with_adults"}
    assert "minors.strangers" in refused(world, world.request(app, somebody, audience="everyone"))
    world.allow(app, somebody)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("a romantic kiss", {"minors.clip", "clear.context"}),
        ("a knight stabs his enemy to death", {"minors.clip", "clear.context"}),
        ("a birthday cake", set()),
    ],
)
def test_a_childs_clip_that_turns_out_romantic_or_violent_is_not_let_out(
    world: Ruled, seen: Seen, line: str, found: set[str]
) -> None:
    app, kid, _ = family(world)
    seen.shows(kid)
    seen.reads(line)
    answer = cleared(world, kid, app=app)
    assert (ids(answer) if isinstance(answer, Denied) else set()) >= found
    assert isinstance(answer, Cleared) == (not found)


@pytest.mark.slow
def test_a_childs_clip_that_looks_violent_is_held_to_the_stricter_score(world: Ruled, seen: Seen) -> None:
    app, kid, mum = family(world)
    world.grant(mum, app)
    seen.shows(kid, scores={"violence": 300})
    assert ids(cleared(world, kid, app=app)) == {"minors.clip"}
    seen.shows(mum, scores={"violence": 300})
    assert isinstance(cleared(world, mum, app=app), Cleared)
    # With a child beside, an adult's clip is a child's.
    seen.shows(mum, kid, scores={"violence": 300})
    assert ids(cleared(world, mum, kid, app=app)) == {"minors.clip"}


@pytest.mark.slow
def test_an_adults_clip_may_be_what_a_childs_may_not(world: Ruled, seen: Seen) -> None:
    """Where they said so: what not everyone agreed to stands in no clip of theirs."""
    app, ada, bob = world.app(), world.enrol(), world.enrol()
    world.grant(ada, app, allowed_contexts=["romantic"])
    world.grant(bob, app)
    seen.reads("a romantic dinner by candlelight")
    seen.shows(ada)
    assert isinstance(cleared(world, ada, app=app), Cleared)
    seen.shows(ada, bob)
    assert ids(cleared(world, ada, bob, app=app)) == {"clear.context"}


@pytest.mark.slow
def test_an_adult_who_looks_like_a_child_in_the_clip_is_not_let_out(world: Ruled, seen: Seen) -> None:
    """A verified birth date is no excuse: it wins only towards caution. Nor is a child beside them one."""
    app, kid, mum = family(world)
    world.grant(mum, app)
    assert refused(world, world.request(app, mum, prompt="as a little girl of eight")) >= {
        "prohibited.child_likeness"
    }
    seen.shows(mum, apparent_minors=1)
    assert ids(cleared(world, mum, app=app)) == {"clear.minor"}
    seen.shows(mum, kid, apparent_minors=1)
    assert ids(cleared(world, mum, kid, app=app)) == {"clear.minor"}


@pytest.mark.slow
def test_a_child_may_look_like_one_in_a_clip_of_children_alone(world: Ruled, seen: Seen) -> None:
    app, kid, _ = family(world)
    seen.shows(kid, apparent_minors=1)
    assert isinstance(cleared(world, kid, app=app), Cleared)
    seen.shows(kid, apparent_minors=2)
    assert ids(cleared(world, kid, app=app)) == {"clear.minor"}
    seen.shows(apparent_minors=1)  # and the one who is granted for is not seen at all
    assert ids(cleared(world, kid, app=app)) == {"clear.minor"}


@pytest.mark.slow
def test_who_comes_of_age_while_a_clip_is_made_is_a_minor_in_it(world: Ruled, seen: Seen) -> None:
    app, mum = world.app(), world.enrol()
    kid = ward(world, mum, born_on=date(2008, 3, 2))
    granted(world, app, kid, guardian=mum, expires="2026-03-02T00:00:00Z")
    allowed = world.allow(app, kid)
    media.write_pattern(world.home / "raw.mp4")
    raw = raw_clip(allowed, world.home / "raw.mp4", backend="b", version="1", closed=True)
    world.wait(hours=20)
    seen.shows(kid, scores={"violence": 300})
    assert ids(world.gate.clear(raw, at=world.at)) == {"minors.clip"}


@pytest.mark.slow
def test_a_stranger_beside_a_child_is_not_let_out_and_not_held_for_reviewers(
    world: Ruled, seen: Seen
) -> None:
    app, kid, mum = family(world)
    world.grant(mum, app)
    engine = Engine.load(POLICIES)
    for people, reviewable in (((mum,), True), ((kid,), False), ((mum, kid), False)):
        seen.shows(*people, strangers=1)
        found = ids(cleared(world, *people, app=app)) if not reviewable else {"clear.ungranted_face"}
        assert ("minors.beside_a_stranger" in found) == (not reviewable)
    stranger = {one.id: one.reviewable for one in engine.policies.all} if engine.policies else {}
    assert (stranger["clear.ungranted_face"], stranger["minors.beside_a_stranger"]) == (True, False)


@pytest.mark.slow
def test_a_remix_of_an_adults_clip_is_a_pairing_too(world: Ruled) -> None:
    """Whoever the first clip shows is in the remix, whether or not the request names them."""
    app, mum, dad, ada = world.app(), world.enrol(), world.enrol(), world.enrol()
    kid = ward(world, mum, dad)
    terms: dict[str, Any] = {"actions": ["generate", "remix"]}
    granted(world, app, kid, guardian=mum, **terms)
    world.grant(ada, app, **terms)
    parent = Studio(world).out(app, ada, film=b"a film of an adult")
    request = world.request(app, kid, action="remix", parent=parent)
    assert refused(world, request) == {"minors.with_adults"}
    for guardian in (mum, dad):
        world.guardian(kid, guardian, with_adults=True)
    world.allow(app, kid, action="remix", parent=parent)


@pytest.mark.slow
def test_a_remix_of_a_childs_clip_waits_for_the_guardian_too(world: Ruled) -> None:
    app, mum = world.app(), world.enrol()
    kid, studio = ward(world, mum), Studio(world)
    granted(world, app, kid, guardian=mum, actions=["generate", "remix"])
    parent = studio.waiting(app, kid, film=b"a film of a child")
    studio.say(parent, kid, "approve", by=mum, role="guardian")
    assert studio.state(parent) == ("completed", None)
    again = studio.make(app, action="remix", parent=parent, film=b"another film of the child")
    assert [use.cameo_id for use in again.permit.uses] == [kid.cameo_id]
    assert isinstance(studio.release(again), Held)


@pytest.mark.slow
def test_a_childs_wishes_count_in_the_words_and_in_the_clip(world: Ruled, seen: Seen) -> None:
    app, mum = world.app(), world.enrol()
    kid = ward(world, mum)
    granted(world, app, kid, guardian=mum, preferences=["no spiders"])
    assert "consent.preference" in refused(world, world.request(app, kid, prompt="a spider on the wall"))
    seen.shows(kid)
    seen.reads("The Spider")
    assert "clear.preference" in ids(cleared(world, kid, app=app))


# ── over HTTP ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def home(live: Site) -> Iterator[tuple[Owner, Owner]]:
    """A child, who granted the film club something, and the guardian who signed it too."""
    ward_, parent = child(live), adult(live)
    guard(live, ward_, parent, max_uses=20)
    assert cosigns(parent, asked(ward_, max_uses=20)).status_code == 201
    yield ward_, parent
    for one in (ward_, parent):
        one.web.close()


def reasons_of(
    site: Site, picture: bytes | None = None, *people: Owner, app: str = "film club", **changes: Any
) -> set[str]:
    """Why an app's request is refused; none where it is taken."""
    body = wanted(*people, **changes)
    with site.client(app) as web:
        if picture is None:
            answer = web.post("/v1/videos", json=body)
        else:
            form = {name: value for name, value in body.items() if name != "characters"}
            form |= {"characters[][id]": [one.cameo_id for one in people]}
            answer = web.post(
                "/v1/videos", data=form, files={"input_reference": ("a.png", picture, "image/png")}
            )
    if answer.status_code == 200:
        return set()
    return {one["id"] for one in answer.json()["error"]["reasons"]}


def ended_as(site: Site, *people: Owner, **changes: Any) -> dict[str, Any]:
    with site.client("film club") as web:
        answer = web.post("/v1/videos", json=wanted(*people, **changes))
        assert answer.status_code == 200, answer.text
        return ended(web, answer.json()["id"])


@pytest.mark.slow
def test_a_parent_puts_a_childs_face_on_the_register(live: Site) -> None:
    """Somebody without an account, for a child without one: from then on nothing is made of that face."""
    picture = hopper_picture()
    notice_id, token = confirmed(live, face(picture), kind="do_not_generate", relation="parent_or_guardian")
    assert "prohibited.do_not_generate" in reasons_of(live, picture)
    with live.client() as web:
        gone = web.post(f"/v1/takedowns/{notice_id}/withdraw", json={"token": token})
        assert gone.json()["erased"] is True
    assert reasons_of(live, picture) == {"prohibited.unknown_face"}


@pytest.mark.slow
def test_a_childs_picture_is_no_way_round_their_guardian(live: Site, home: tuple[Owner, Owner]) -> None:
    ward_, _ = home
    for app in ("film club", "other app"):
        assert reasons_of(live, collins_picture(), app=app) == {"prohibited.unknown_face"}
    # Nor with their name beside it, for an app that no guardian has agreed to.
    found = reasons_of(live, collins_picture(), ward_, app="other app")
    assert found >= {"prohibited.unknown_face", "consent.no_grant"}, found


@pytest.mark.slow
def test_a_childs_clip_goes_out_at_the_guardians_word_and_not_at_the_childs(
    live: Site, home: tuple[Owner, Owner]
) -> None:
    ward_, parent = home
    with live.client("film club") as web:
        video_id = web.post("/v1/videos", json=wanted(ward_)).json()["id"]
        draft = _draft(parent, ward_, video_id)
        assert draft["video_id"] == video_id
        own = ward_.web.post(f"/v1/approvals/{video_id}", json={"decision": "approve"})
        assert own.status_code in {200, 403}, own.text
        assert web.get(f"/v1/videos/{video_id}").json()["status"] == "queued"
        word = parent.web.post(
            f"/v1/approvals/{video_id}", params={"for": ward_.person_id}, json={"decision": "approve"}
        )
        assert word.status_code == 200, word.text
        assert ended(web, video_id)["status"] == "completed"
    kinds = [one["kind"] for one in live.audit(ward_.cameo_id) if one.get("video_id") == video_id]
    assert kinds == ["decision", "draft", *["approval"] * (1 + own.is_success), "release"]


@pytest.mark.slow
def test_a_clip_of_a_child_is_not_for_everyone_to_see(live: Site, home: tuple[Owner, Owner]) -> None:
    ward_, parent = home
    assert "minors.strangers" in reasons_of(live, None, ward_, audience="everyone")
    assert "minors.context" in reasons_of(live, None, ward_, prompt="a romantic kiss")
    assert waiting(parent) == []


@pytest.mark.slow
def test_a_clip_in_which_a_stranger_stands_beside_a_child_is_refused(
    live: Site, home: tuple[Owner, Owner]
) -> None:
    """The model paints somebody of its own: the owner and their guardian read why, and nobody can have the clip."""
    ward_, parent = home
    video = ended_as(live, ward_, prompt=f"{STRANGER} in golden light")
    assert video["status"] == "failed"
    with live.client("film club") as web:
        assert web.get(f"/v1/videos/{video['id']}/content").status_code == 404
    (event, *_) = ward_.web.get("/v1/timeline").json()["events"]
    assert (event["kind"], event["status"]) == ("returned", "failed")
    assert "minors.beside_a_stranger" in {one["id"] for one in event["reasons"]}
    page = parent.web.get("/me/timeline", params={"for": ward_.person_id})
    assert page.status_code == 200
    assert "minor" in page.text
    assert "returned" in {
        one["kind"] for one in live.audit(ward_.cameo_id) if one.get("video_id") == video["id"]
    }


@pytest.mark.slow
def test_an_enrolled_person_whom_a_model_paints_is_told_on_their_page_and_the_app_is_not(
    live: Site, home: tuple[Owner, Owner]
) -> None:
    """Robin has agreed to nothing; somebody's clip of a child shows them, and nobody gets it."""
    ward_, parent = home
    video = ended_as(live, ward_, prompt=f"{STRANGER} in golden light")
    assert video["status"] == "failed"
    found = {
        one["video_id"]: one for one in parent.web.get("/v1/timeline").json()["events"] if one["video_id"]
    }
    told = found[video["id"]]
    assert (told["kind"], told["status"], told["app_name"]) == ("sighting", "refused", "film club")
    assert (told["prompt"], told["thumbnail"]) == (None, None)
    assert "A video that film club asked for showed you" in parent.web.get("/me/timeline").text
    # It is on the list that is proven whole, and replays: somebody who was seen has not been used.
    (seen_,) = [
        one
        for one in live.audit(parent.cameo_id)
        if one["kind"] == "sighting" and one["video_id"] == video["id"]
    ]
    assert (seen_["where"], seen_["outcome"], seen_["video_id"]) == ("clip", "refused", video["id"])
    # The app, and the child beside, hear of a stranger only.
    assert "enrolled" not in str(video)
    (event, *_) = ward_.web.get("/v1/timeline").json()["events"]
    assert {one["id"] for one in event["reasons"]} == {"clear.ungranted_face", "minors.beside_a_stranger"}
    # A picture that shows them is refused as anybody's is, and they are told of that, too; of a precheck nothing is.
    count = len(live.audit(parent.cameo_id))
    assert reasons_of(live, hopper_picture()) == {"prohibited.unknown_face"}
    (*_, last) = [one for one in live.audit(parent.cameo_id) if one["kind"] != "audit"]
    assert (last["kind"], last["where"]) == ("sighting", "pictures")
    assert len(live.audit(parent.cameo_id)) == count + 3


def _draft(guardian: Owner, ward_: Owner, video_id: str) -> dict[str, Any]:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        answer: httpx.Response = guardian.web.get("/v1/approvals", params={"for": ward_.person_id})
        drafts: list[dict[str, Any]] = answer.json()["drafts"]
        if found := [one for one in drafts if one["video_id"] == video_id]:
            return found[0]
        time.sleep(0.1)
    raise AssertionError(answer.text)
