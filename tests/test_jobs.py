"""The rows of clips, drafts and tokens, on both databases: what is asked of them is answered alike."""

from datetime import timedelta
from hashlib import sha256

from ledger.ids import CameoId, GrantId, PersonId, VideoId, new_id
from ledger.store.records import Credential, Depicted, HeldClip, Person, Video
from ledger.store.tokens import Token
from ledger.store.transaction import Transaction
from test_store import Home, home, new_app, postgres, url  # noqa: F401 — fixtures
from world import START

REASONS = [{"id": "x", "reason": "it stopped", "remedy": "try again"}]


def add_person(tx: Transaction) -> PersonId:
    person = PersonId(new_id("person"))
    tx.add_person(
        Person(person, "Someone", created_at=0), Credential(person, person, "device", "k", created_at=0)
    )
    return person


def clip(**changes: object) -> Video:
    fields = {"model": "m", "prompt": "p", "size": "640x360", "seconds": 1, "created_at": 0}
    return Video(id=VideoId(new_id("video")), **{**fields, **changes})  # type: ignore[arg-type]


def test_lineage_is_walked_up_and_down(home: Home) -> None:  # noqa: F811
    ledger = home.start()
    app = new_app(ledger)
    #      0
    #    1   2        6 (of its own)
    #   3 4
    #   5
    made = [clip(app_id=app, created_at=n) for n in range(7)]
    above = {1: 0, 2: 0, 3: 1, 4: 1, 5: 3}
    # More below one clip than fit in one question to the database.
    crowd = [clip(app_id=app, created_at=99, parent_id=made[5].id) for _ in range(600)]
    below_all = [clip(app_id=app, created_at=100, parent_id=one.id) for one in crowd]

    def fill(tx: Transaction) -> None:
        for n, one in enumerate(made):
            parent = made[above[n]].id if n in above else None
            tx.open_job(Video(**{**{f: getattr(one, f) for f in one.__slots__}, "parent_id": parent}), "", [])
        for one in (*crowd, *below_all):
            tx.open_job(one, "", [])

    ledger.transact(fill)
    with ledger.reading() as tx:
        five = tx.video(made[5].id)
        assert five is not None
        assert [made.index(next(m for m in made if m.id == one.id)) for one in tx.lineage(five)] == [
            5,
            3,
            1,
            0,
        ]
        below = [one.id for one in tx.descendants([made[1].id])]
        assert below[:3] == [made[3].id, made[4].id, made[5].id]
        assert set(below[3:]) == {one.id for one in (*crowd, *below_all)}
        assert len(below) == 3 + 1200
        assert tx.descendants([made[6].id, made[2].id]) == []
        assert tx.descendants([]) == []
    ledger.close()


def test_drafts_are_found_by_whom_they_show_and_by_what_is_over(home: Home) -> None:  # noqa: F811
    ledger = home.start()
    app = new_app(ledger)
    ada, bob = ledger.transact(lambda tx: (add_person(tx), add_person(tx)))
    grant, other = GrantId(new_id("grant")), GrantId(new_id("grant"))
    videos = [clip(app_id=app, created_at=n) for n in range(4)]
    now = int(START.timestamp())

    def fill(tx: Transaction) -> None:
        for n, video in enumerate(videos):
            uses = [Depicted(ada, CameoId("cameo_a"), grant)]
            if n == 1:
                uses.append(Depicted(bob, CameoId("cameo_b"), other))
            tx.open_job(video, "permit", uses)
        for n, video in enumerate(videos[:3]):
            held = HeldClip(video.id, "sealed", f"clips/{n}", now + n, now + 60 * (n + 1))
            tx.hold_job(held, "0" * 64, at=START)

    ledger.transact(fill)
    with ledger.reading() as tx:
        assert [held.video_id for held in tx.held_clips()] == [one.id for one in videos[:3]]
        assert [held.video_id for held, _, _ in tx.held_clips_of(ada)] == [one.id for one in videos[:3]]
        ((held, video, use),) = tx.held_clips_of(bob)
        assert (held.video_id, video.status, use.grant_id) == (videos[1].id, "queued", other)
        assert tx.held_clips_over(at=START) == []
        assert [h.video_id for h in tx.held_clips_over(at=START + timedelta(minutes=2))] == [
            videos[0].id,
            videos[1].id,
        ]
        # What waits for somebody's word is not being made; but neither has it ended.
        assert tx.running_jobs(app) == 1
        assert len(tx.unfinished_jobs()) == 4
        assert [one.id for one in tx.made_under([other])] == [videos[1].id]
        assert [one.id for one in tx.made_under([grant, other])] == [one.id for one in videos]
        assert tx.made_under([]) == []
    ledger.transact(lambda tx: tx.end_job(videos[2].id, "approval", REASONS, at=START))
    with ledger.reading() as tx:
        assert [h.video_id for h in tx.held_clips_over(at=START)] == [videos[2].id]
        assert [h.video_id for h, _, _ in tx.held_clips_of(ada)] == [videos[0].id, videos[1].id]
    release = {"manifest_id": "urn:x", "payload": "00" * 8, "checks": []}
    ledger.transact(lambda tx: tx.finish_job(videos[0].id, release, "clips/0", at=START))
    ledger.transact(lambda tx: tx.drop_draft(videos[2].id))
    for _ in range(3):
        ledger.transact(lambda tx: tx.count_download(videos[0].id))
    with ledger.reading() as tx:
        assert [held.video_id for held in tx.held_clips()] == [videos[1].id]
        out = tx.video(videos[0].id)
        assert out is not None
        assert (out.status, out.downloads, tx.has_ended(videos[0].id)) == ("completed", 3, True)
        assert (tx.has_ended(videos[3].id), tx.has_ended(VideoId("none"))) == (False, True)
    # An end of these grants ends what is being made under them, and nothing that is out.
    ledger.transact(lambda tx: tx.take_back([grant], withdraw=True, at=START))
    with ledger.reading() as tx:
        stands = {n: tx.video(one.id) for n, one in enumerate(videos)}
        assert {n: one.status for n, one in stands.items() if one} == {
            0: "completed",
            1: "failed",
            2: "failed",
            3: "failed",
        }
    assert ledger.transact(lambda tx: tx.end_jobs_of(bob, at=START)) == ["clips/1"]
    ledger.close()


def test_a_token_is_good_for_its_purpose_and_its_time(home: Home) -> None:  # noqa: F811
    ledger = home.start()
    ada, bob = ledger.transact(lambda tx: (add_person(tx), add_person(tx)))
    now, later = int(START.timestamp()), START + timedelta(hours=1)
    names = [sha256(bytes([n])).digest() for n in range(3)]

    def fill(tx: Transaction) -> None:
        tx.add_token(Token(names[0], "speak", ada, now, now + 60, "app_1"))
        tx.add_token(Token(names[1], "speak", ada, now + 1, now + 7200, "app_2"))
        tx.add_token(Token(names[2], "guardian", ada, now, now + 7200))

    ledger.transact(fill)
    with ledger.reading() as tx:
        found = tx.token(names[0], "speak", at=START)
        assert found is not None
        assert (found.person_id, found.holder) == (ada, "app_1")
        assert tx.token(names[0], "guardian", at=START) is None
        assert tx.token(names[0], "speak", at=later) is None
        assert tx.token(sha256(b"").digest(), "speak", at=START) is None
        assert [one.holder for one in tx.tokens(ada, "speak", at=START)] == ["app_1", "app_2"]
        assert [one.holder for one in tx.tokens(ada, "speak", at=later)] == ["app_2"]
        assert tx.tokens(bob, "speak", at=START) == []
    ledger.transact(lambda tx: tx.drop_token(names[1]))
    with ledger.reading() as tx:
        assert tx.token(names[1], "speak", at=START) is None
    ledger.close()
