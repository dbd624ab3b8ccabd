from safety.chain import Allowed
from safety.gate import Denied
from world import World


def test_no_grant_means_no_clip(world: World) -> None:
    app, ada = world.app(), world.enrol()
    assert isinstance(world.gate.decide(world.request(app, ada), at=world.at), Denied)
    world.grant(ada, app)
    assert isinstance(world.gate.decide(world.request(app, ada), at=world.at), Allowed)
