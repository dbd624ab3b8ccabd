"""Made `home-before-measuring.tar.gz`: run in a checkout of revision 8d5b11c, with `tests` on the path.

A ledger as the service wrote it when a prompt had seven scores, a finished clip was looked at for faces only, and no
token said whether its model draws anything of its own. Nobody can write such a one any more.
"""

import json
import sys
import tarfile
from pathlib import Path
from typing import Any

from safety.chain import cleared, raw_clip
from studio import Studio
from test_activation import COMMERCIAL, Ruled, opened
from test_gate_consent import FOR_A_MINOR, granted, ward
from world import Someone


def tell(home: Path) -> dict[str, Any]:
    """What happened there, by the ids that a test needs to find it again."""
    world: Ruled = opened(home)
    studio = Studio(world)
    app = world.app()
    ada, bob, mum = world.enrol(), world.enrol(), world.enrol()
    kid = ward(world, mum)
    granted(world, app, kid, guardian=mum, **FOR_A_MINOR)
    world.grant(ada, app, max_uses=20, actions=["generate", "remix"])
    world.grant(bob, app, preferences=["no alcohol"], jurisdictions=["DE"])
    asked: list[str] = []

    def ask(*people: Someone, **changes: Any) -> None:
        request = world.request(app, *people, **changes)
        world.gate.decide(request, at=world.at)
        asked.append(request.video_id)
        world.wait(seconds=5)

    ask(ada)
    ask(ada, bob, countries=("DE",))
    ask(bob, countries=("DE",), prompt="a toast with alcohol")
    ask(bob)
    ask(kid, ada)
    ask(kid, audience="everyone")
    ask(kid, prompt="a bloody battle")
    ask(ada, prompt="a bloody battle with an axe and a sword, blood and gore everywhere")
    ask()
    ask(ada, purpose=COMMERCIAL)
    released = studio.out(app, ada, film=b"a film that is out " * 50)
    ask(ada, action="remix", parent=released)
    # What was on its way when the service was stopped to be upgraded.
    queued = world.allow(app, ada).permit.video_id
    waiting = studio.waiting(app, kid, film=b"a film that waits for a guardian " * 50)
    made = world.allow(app, ada)
    (home / "raw.mp4").write_bytes(b"a film that was just made " * 50)
    raw = raw_clip(made, home / "raw.mp4", backend="countersign-reference", version="1")
    for clip in home.glob("video_*.mp4"):
        clip.unlink()
    sealer = world.gate.sealer
    told = {
        "asked": asked,
        "released": released,
        "queued": queued,
        "waiting": waiting,
        "sealed": {
            "RawClip": sealer.seal(raw),
            "Cleared": sealer.seal(cleared(raw, checks=("faces", "prompt"))),
        },
        "app": app,
        "people": {name: one.person_id for name, one in (("ada", ada), ("kid", kid), ("mum", mum))},
    }
    world.ledger.close()
    return told


if __name__ == "__main__":
    home = Path(sys.argv[1])
    home.mkdir()
    (home / "told.json").write_text(json.dumps(tell(home), indent=1))
    with tarfile.open("home-before-measuring.tar.gz", "w:gz") as archive:
        archive.add(home, arcname=".")
