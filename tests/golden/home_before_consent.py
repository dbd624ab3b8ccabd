"""Made `home-before-consent.tar.gz`: run in a checkout of revision 2eb86d4, with `tests` on the path.

A ledger as the service wrote it when a person had one key, a grant had no preferences and could not be passed on, and
a record of a decision said nothing of countries. Nobody can write such a one any more.
"""

import sys
import tarfile
from datetime import date
from pathlib import Path
from typing import Any

from test_activation import COMMERCIAL, Ruled, opened
from world import Someone


def tell(home: Path) -> list[str]:
    """What happened there; the videos that were asked for, in order."""
    world: Ruled = opened(home)
    app = world.app()
    ada, bob, kid = world.enrol(), world.enrol(), world.enrol(born_on=date(2015, 1, 1))
    world.grant(ada, app)
    world.grant(bob, app, grantee={"type": "everyone", "id": "*"})
    asked: list[str] = []

    def ask(*people: Someone, **changes: Any) -> None:
        request = world.request(app, *people, **changes)
        world.gate.decide(request, at=world.at)
        asked.append(request.video_id)
        world.wait(seconds=5)

    ask(ada)
    ask(ada, bob)
    ask(kid, ada)
    ask()
    ask(ada, prompt="a bloody battle")
    world.revoke(ada, world.grant(ada, app, max_uses=1))
    ask(ada, purpose=COMMERCIAL)
    world.ledger.close()
    return asked


if __name__ == "__main__":
    home = Path(sys.argv[1])
    home.mkdir()
    (home / "asked").write_text("\n".join(tell(home)))
    with tarfile.open("home-before-consent.tar.gz", "w:gz") as archive:
        archive.add(home, arcname=".")
