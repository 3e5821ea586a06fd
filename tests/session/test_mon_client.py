"""The monitors' part of a client: hunting, subscriptions, tickets, signs of life, and when it gives up."""

from __future__ import annotations

import pytest

from cephcaps.auth.cephx import Ticket
from cephcaps.core import Close, Mount
from cephcaps.errors import AuthError, ConfigError, ConnectionFailed, SessionLost
from cephcaps.testing.keys import AUTH_VALIDITY, BAD_KEY, SERVICE_VALIDITY
from cephwire.cephx import CEPHX_REQUEST, RequestType
from cephwire.codec import Codec
from cephwire.control import AuthDone, AuthRequest, ClientIdent, ConMode, IdentMissingFeatures, Keepalive2
from cephwire.entity import EntityAddr, EntityType
from cephwire.mon_messages import MAuth, MAuthReply, MConfig, MonSubscribe, Subscription
from cephwire.session import SessionOp
from tests.session import samples
from tests.session.handshakes import ADMIN
from tests.session.peers import entropy
from tests.session.world import Daemon, Monitor, World, mon_addr, mounted

HUNT_INTERVAL = 3.0
PING_INTERVAL = 10.0
PING_TIMEOUT = 30.0
ANSWER_TIMEOUT = 10.0


def connecting(world: World, seconds: float = 10.0) -> World:
    """Let the client look for a monitor."""
    world.core.tick(world.now)
    world.run()
    world.advance(seconds, until=lambda: world.core.monitors.ready)
    return world


def hanging_up(monitor: Daemon) -> None:
    monitor.arrived = lambda peer: peer.answers.update({ClientIdent: lambda frame: None})


def too_new(monitor: Daemon) -> None:
    monitor.arrived = lambda peer: peer.answers.update({ClientIdent: lambda frame: IdentMissingFeatures(1 << 63)})


def of_another_kind(monitor: Daemon) -> None:
    monitor.arrived = lambda peer: setattr(peer, "kind", EntityType.MGR)


def stuck(monitor: Daemon) -> None:
    monitor.arrived = lambda peer: peer.answers.update({AuthRequest: lambda frame: ()})


def in_mood(mood: str):  # type: ignore[no-untyped-def]
    return lambda monitor: setattr(monitor, "mood", mood)


# Hunting


@pytest.mark.parametrize("good", [0, 1, 2])
@pytest.mark.parametrize(
    ("spoil", "why", "patience"),
    [
        (in_mood("dead"), "connection refused", 0.0),
        (in_mood("silent"), "no answer while awaiting the peer's banner", HUNT_INTERVAL),
        (in_mood("stranger"), "is no Ceph daemon: it began with b'220 mail", 0.0),
        (hanging_up, "the peer closed it", 0.0),
        (too_new, "requires features we lack: bits 63", 0.0),
        (of_another_kind, "is no mon but an mgr", 0.0),
        (stuck, "no answer while awaiting authentication", HUNT_INTERVAL),
    ],
    ids=["dead", "silent", "stranger", "hangs up", "too new", "another kind", "stuck"],
)
def test_a_monitor_that_is_of_no_use_is_followed_by_the_next(spoil, why: str, patience: float, good: int) -> None:  # type: ignore[no-untyped-def]
    world = World(mons=3)
    for monitor in world.mons:
        if monitor is not world.mons[good]:
            spoil(monitor)
    start = world.now

    connecting(world)

    tries = len(world.dialled)
    assert world.dialled[-1] == mon_addr(good)
    assert len(set(world.dialled)) == tries, "each is tried once"
    assert world.now == start + patience * (tries - 1)
    assert all(why in lost["error"] for lost in world.happened("mon.lost"))
    assert not world.core.monitors.errors


def test_clients_spread_over_the_monitors() -> None:
    world = World(mons=3)
    first = set()
    for _ in range(20):
        world.dialled.clear()
        connecting(world)
        first.add(world.dialled[0])
        world.core.monitors._drop()
        world.core.monitors._queue = []
        world.run()

    assert first == {monitor.addr for monitor in world.mons}


def test_rounds_through_dead_monitors_come_at_growing_intervals_and_go_on() -> None:
    world = World(mons=2)
    for monitor in world.mons:
        monitor.mood = "dead"
    rounds = []
    world.core.tick(world.now)
    world.run()

    for _ in range(30):
        before = len(world.dialled)
        started = world.now
        world.advance(60, until=lambda: len(world.dialled) >= before + 2)  # noqa: B023
        rounds.append(world.now - started)
    world.mons[1].mood = "well"
    connecting(world, 16.0)

    pauses = [min(0.2 * 1.5**number, 15.0) for number in range(30)]
    shares = [took / pause for took, pause in zip(rounds, pauses, strict=True)]
    assert all(0.5 <= share <= 1.0 for share in shares)
    assert max(shares) - min(shares) > 0.3, "at random, so that clients do not come all at once"
    assert world.core.monitors.ready


def test_a_mount_that_finds_no_monitor_says_what_each_one_did() -> None:
    world = World(mons=3)
    world.mons[0].mood, world.mons[1].mood, world.mons[2].mood = "dead", "silent", "stranger"

    error = world.mount()

    assert isinstance(error, ConnectionFailed)
    assert str(error).startswith("no monitor let us in: ")
    assert str(error).endswith("check mon_host and that a monitor runs there")
    for monitor, why in zip(world.mons, ("connection refused", "no answer while", "is no Ceph daemon"), strict=True):
        assert f"mon at {monitor.addr}: " in str(error)
        assert why in str(error)


@pytest.mark.parametrize("mons", [1, 3])
def test_once_there_is_a_monmap_its_monitors_are_tried_and_no_others(mons: int) -> None:
    world = World(mons=mons)
    other = Monitor(world, mon_addr(7))
    world.daemons[other.addr] = other
    world.maps["monmap"] = 4, samples.monmap(4, other.addr)
    world.mount()
    world.dialled.clear()

    world.lose(next(monitor for monitor in world.mons if monitor.peers))
    world.advance(5.0, until=lambda: world.core.monitors.ready)

    assert world.dialled == [other.addr]
    assert world.core.monitors.ready


def test_what_happens_to_a_connection_given_up_before_is_of_no_interest() -> None:
    world = World()
    world.mons[0].mood = "silent"
    world.core.tick(world.now)
    world.run()
    given_up = world.core.monitors.connection
    assert given_up is not None
    world.advance(HUNT_INTERVAL)
    world.mons[0].mood = "well"
    connecting(world, 20.0)

    world.core.disconnected(given_up, ConnectionFailed("late"), world.now)
    world.run()

    assert world.core.monitors.connection is not given_up
    assert world.core.monitors.ready


@pytest.mark.parametrize("number", range(10))
def test_a_monitor_that_is_lost_is_followed_by_another_at_once(number: int) -> None:
    world = World(mons=3)
    world.tickets.entropy = entropy(f"client {number}")
    world.mount()
    world.advance(20.0)
    lost = standing(world)
    lost.mood = "silent"  # as a host is whose power failed
    world.dialled.clear()
    now = world.now

    world.lose(lost)
    world.advance(0.0)

    assert world.core.monitors.ready
    assert world.now == now
    assert lost.addr not in world.dialled


def standing(world: World) -> Monitor:
    """The monitor that the client is connected to."""
    return next(mon for mon in world.mons if any(peer in world.links.values() for peer in mon.peers))


def test_a_monitor_that_is_lost_again_and_again_is_returned_to_ever_more_slowly_and_forgiven_later() -> None:
    world = mounted()
    pauses = [time_to_return(world) for _ in range(12)]
    assert max(pauses) < 15.0
    assert pauses[-1] > 6.0 > pauses[5] > 0.5 > pauses[0]

    world.advance(HUNT_INTERVAL)

    assert time_to_return(world) == 0.0


def test_an_outage_does_not_make_later_losses_last_longer() -> None:
    world = mounted()
    world.mons[0].mood = "dead"
    world.lose(world.mons[0])
    world.advance(600.0)
    world.mons[0].mood = "well"
    world.advance(16.0, until=lambda: world.core.monitors.ready)

    assert 0.1 <= time_to_return(world) <= 0.2


def time_to_return(world: World) -> float:
    world.lose(standing(world))
    now = world.now
    world.advance(30.0, until=lambda: world.core.monitors.ready)
    return world.now - now


# Subscriptions


def test_a_mount_subscribes_to_what_it_needs() -> None:
    world = mounted()

    asked = [message.what for message in world.mons[0].peer.got(MonSubscribe)]
    assert {name: start for what in asked for name, (start, _) in items(what)} == {
        "monmap": 0,
        "config": 0,
        "fsmap.user": 0,
        "osdmap": 0,
        "mdsmap.1": 0,
    }
    assert {message.hostname for message in world.mons[0].peer.got(MonSubscribe)} == {"here"}


def items(what: dict[str, Subscription]) -> list[tuple[str, tuple[int, int]]]:
    return [(name, (subscription.start, subscription.flags)) for name, subscription in what.items()]


def test_after_a_loss_everything_is_subscribed_again_from_what_was_missed() -> None:
    world = mounted(mons=2)
    lost = next(monitor for monitor in world.mons if monitor.peers)
    lost.mood = "dead"

    world.lose(lost)
    world.advance(5.0, until=lambda: world.core.monitors.ready)

    [other] = [monitor for monitor in world.mons if monitor is not lost]
    [again] = other.peer.got(MonSubscribe)
    assert dict(items(again.what)) == {
        "monmap": (4, 0),
        "config": (0, 0),
        "fsmap.user": (8, 0),
        "osdmap": (0, 0),
        "mdsmap.1": (6, 0),
    }


def test_maps_made_while_no_monitor_was_there_arrive_with_the_next_one() -> None:
    world = mounted()
    world.lose(world.mons[0])
    world.map_ranks(epoch=9)

    world.advance(5.0, until=lambda: world.core.monitors.ready)

    assert world.core.mds.mdsmap is not None
    assert world.core.mds.mdsmap.epoch == 9


def test_the_file_system_s_session_outlives_the_monitor() -> None:
    world = mounted()
    world.mons[0].mood = "dead"

    world.lose(world.mons[0])
    world.advance(50.0)

    assert world.session.state == "open"
    assert isinstance(world.results[world.getattr(ino=1)], Exception) is False


def test_the_cluster_s_own_options_are_handed_on() -> None:
    world = mounted(mode=ConMode.CRC)
    said = []

    def configured(options: object) -> tuple[ConMode, ...]:
        said.append(options)
        if len(said) == 2:
            raise ConfigError("nonsense")
        return (ConMode.SECURE,)

    world.core._configured = configured  # type: ignore[assignment]
    for value in ("secure", "nonsense"):
        world.mons[0].peer.send(MConfig({"ms_client_mode": value}))
        world.run()

    assert said == [{"ms_client_mode": "secure"}, {"ms_client_mode": "nonsense"}]
    assert world.core.mds.con_modes == (ConMode.SECURE,)
    assert world.happened("config.refused") == [{"error": "nonsense"}]
    assert world.core.monitors.ready


# Identity and tickets


@pytest.mark.parametrize("mons", [1, 3])
def test_the_global_id_is_kept_over_monitors(mons: int) -> None:
    world = mounted(mons=mons)

    for _ in range(5):
        world.lose(next(daemon for daemon in world.mons if daemon.peers and daemon.peer in world.links.values()))
        world.advance(10.0, until=lambda: world.core.monitors.ready)

    assert world.core.monitors.ready
    assert world.tickets.global_id == 4100
    assert len(world.happened("mon.connected")) == 6


def asked_for(world: World) -> list[int]:
    """The kinds of requests for tickets that the newest connection has had."""
    found = [Codec(CEPHX_REQUEST).decode(message.auth_payload) for message in world.mons[0].peer.got(MAuth)]
    return [request.request_type for request in found]


def test_tickets_are_renewed_when_a_quarter_of_their_time_is_left() -> None:
    world = mounted()
    logged_in = world.now

    world.advance(SERVICE_VALIDITY * 3 / 4 - 1)
    assert asked_for(world) == []
    world.advance(1.0)

    assert asked_for(world) == [RequestType.GET_PRINCIPAL_SESSION_KEY]
    assert world.tickets.held[EntityType.MDS].expires == logged_in + SERVICE_VALIDITY * 7 / 4
    assert world.tickets.held[EntityType.AUTH].expires == logged_in + AUTH_VALIDITY


def test_the_auth_ticket_is_renewed_over_the_same_connection() -> None:
    world = mounted()
    world.keys.validity[EntityType.AUTH] = 1000
    world.lose(world.mons[0])
    world.advance(5.0, until=lambda: world.core.monitors.ready)
    logged_in = world.now

    world.advance(751.0)

    assert asked_for(world) == [RequestType.GET_AUTH_SESSION_KEY]
    assert world.tickets.held[EntityType.AUTH].expires == pytest.approx(logged_in + 1750)
    assert world.tickets.global_id == 4100
    assert world.core.monitors.ready


def test_days_pass_without_a_ticket_running_out() -> None:
    world = World()
    world.keys.validity = dict.fromkeys(EntityType, 600) | {EntityType.AUTH: 2000}
    world.mount()

    world.advance(20_000)

    assert all(ticket.expires > world.now for ticket in world.tickets.held.values())
    assert len(world.happened("mon.connected")) == 1


def test_a_renewal_that_a_monitor_does_not_answer_is_had_from_another() -> None:
    world = mounted(mons=2)
    mute = standing(world)
    mute.renews = False

    world.advance(SERVICE_VALIDITY * 3 / 4 + ANSWER_TIMEOUT)

    assert standing(world) is not mute
    assert world.tickets.held[EntityType.MDS].expires == world.now + SERVICE_VALIDITY
    assert world.happened("mon.lost")[0]["error"] == "no answer to a request for tickets"
    assert world.tickets.global_id == 4100
    assert world.session.state == "open"


def test_a_renewal_that_was_asked_of_a_monitor_that_is_lost_then_is_had_at_once_from_the_next() -> None:
    world = mounted()
    world.mons[0].renews = False
    world.advance(SERVICE_VALIDITY * 3 / 4)
    assert len(asked_for(world)) == 1

    world.lose(world.mons[0])
    world.advance(0.0)

    assert world.tickets.held[EntityType.MDS].expires == world.now + SERVICE_VALIDITY


def test_a_renewal_that_fell_due_without_a_monitor_is_had_with_the_first_that_comes() -> None:
    world = World()
    world.keys.validity = dict.fromkeys(EntityType, 600)
    world.mount()
    world.mons[0].mood = "dead"
    world.lose(world.mons[0])
    world.advance(601.0)  # some monitors still read such a ticket
    assert not usable(world)
    world.mons[0].mood = "well"

    world.advance(16.0, until=lambda: world.core.monitors.ready)

    assert world.tickets.held[EntityType.MDS].expires == world.now + 600
    assert world.tickets.global_id == 4100
    assert world.session.state == "open"


def test_a_renewal_that_is_refused_is_told_and_asked_for_again_at_leisure() -> None:
    world = mounted()
    world.keys.sealing[EntityType.AUTH] = world.keys.new_key()

    world.advance(SERVICE_VALIDITY * 3 / 4 + 60)

    asked = asked_for(world)
    assert asked[:2] == [RequestType.GET_PRINCIPAL_SESSION_KEY, RequestType.GET_AUTH_SESSION_KEY]
    assert world.happened("tickets.refused") == [{"result": -13}] * len(asked)
    assert 5 <= len(asked) <= 10
    assert world.core.monitors.ready, "it has maps to tell all the same"


def test_a_ticket_that_nobody_asked_for_and_nobody_renews_is_left_to_its_fate() -> None:
    world = mounted()
    held = world.tickets.held[EntityType.OSD]
    world.tickets.held[EntityType.CLIENT] = Ticket(held.session_key, held.blob, world.now, world.now + 1)

    world.advance(60.0)

    assert asked_for(world) == []


def test_short_lived_tickets_never_run_out_however_often_the_connection_breaks() -> None:
    world = World(mons=3)
    world.keys.validity = dict.fromkeys(EntityType, 60)
    world.mount()

    for number in range(150):
        world.lose(standing(world))
        world.advance(0.7 * (number % 17), until=lambda: not usable(world))
        assert usable(world)
        world.advance(15.0, until=lambda: world.core.monitors.ready)

    assert world.tickets.global_id == 4100
    assert world.session.state == "open"


def usable(world: World) -> bool:
    return all(world.tickets.usable(service, world.now) for service in (EntityType.MDS, EntityType.AUTH))


def wake(world: World, slept: float) -> None:
    """The process was frozen: what its sockets hold is read before timers run."""
    world.now += slept
    world.run()
    world.core.tick(world.now)
    world.run()


@pytest.mark.parametrize("service", [EntityType.MDS, EntityType.AUTH])
def test_the_first_thing_after_a_long_sleep_is_to_renew_tickets(service: EntityType) -> None:
    world = mounted()
    world.keys.validity[EntityType.AUTH] = 7200

    wake(world, SERVICE_VALIDITY + 1 if service is EntityType.MDS else AUTH_VALIDITY + 1)

    assert usable(world)
    assert world.tickets.global_id == 4100
    assert len(world.happened("mon.connected")) == 1


def test_a_session_whose_connection_broke_in_a_long_sleep_goes_on_after_it() -> None:
    world = mounted()
    for daemon in (*world.mons, *world.ranks):
        world.lose(daemon)

    wake(world, SERVICE_VALIDITY + 1)
    world.advance(5.0)

    assert world.session.state == "open"
    assert world.session.carrier.ready


def refuse_all_tickets(world: World) -> None:
    """The keys that tickets were sealed with are used no more."""
    for service in EntityType:
        world.keys.sealing[service] = world.keys.new_key()


def assert_is_another(world: World, pending: int) -> None:
    assert world.core.monitors.ready
    assert world.tickets.global_id == 4101
    assert world.happened("client.renamed") == [{"was": 4100, "global_id": 4101}]
    assert world.session.state == "rejected"
    for token in (pending, world.getattr(ino=3)):
        error = world.results[token]
        assert isinstance(error, SessionLost)
        assert error.reason == "rejected"
        assert "client.4100 was too old" in str(error)
        assert "client.4101: connect anew" in str(error)


@pytest.mark.parametrize("mons", [1, 3])
def test_an_identity_that_no_monitor_believes_any_more_is_given_up_and_sessions_with_it(mons: int) -> None:
    world = mounted(mons=mons)
    pending = world.getattr(timeout=1e6)
    refuse_all_tickets(world)

    world.lose(standing(world))
    world.advance(5.0, until=lambda: world.core.monitors.ready)

    assert_is_another(world, pending)
    world.advance(2 * SERVICE_VALIDITY)
    assert usable(world)
    assert len(world.happened("mon.connected")) == 2


def test_an_identity_given_up_leaves_nothing_behind_where_its_connection_stands() -> None:
    world = mounted(mds=2)
    refuse_all_tickets(world)

    world.lose(standing(world))
    world.advance(5.0, until=lambda: world.core.monitors.ready)

    assert world.ranks[0].peer.session_ops()[-1] == (SessionOp.REQUEST_CLOSE, 0)


def test_an_identity_slept_away_while_the_clock_stood_still_is_given_up_once_an_mds_refuses_the_ticket() -> None:
    world = mounted()
    pending = world.getattr(timeout=1e6)
    refuse_all_tickets(world)

    world.lose(world.ranks[0])
    world.advance(20.0, until=lambda: bool(world.happened("client.renamed")))
    world.run()

    assert_is_another(world, pending)


def test_an_identity_is_kept_when_one_monitor_of_three_does_not_believe_it() -> None:
    world = mounted(mons=3)
    world.advance(20.0)
    lost = standing(world)
    odd, sound = (mon for mon in world.mons if mon is not lost)
    odd.arrived = lambda peer: peer.answers.update({AuthRequest: lambda frame: BAD_KEY})
    lost.mood = "dead"
    for _ in range(10):
        world.lose(standing(world))
        world.advance(20.0, until=lambda: world.core.monitors.ready)

    assert len(odd.peers) > 2
    assert standing(world) is sound
    assert world.tickets.global_id == 4100
    assert world.core.mds.barred is None
    assert world.session.state == "open"


def test_a_client_whose_key_is_deleted_keeps_its_sessions_and_knocks_slowly_until_the_key_is_back() -> None:
    world = mounted(mons=2)
    key = world.keys.principals.pop(str(ADMIN))
    world.lose(standing(world))
    world.advance(30.0)
    knocked = len(world.dialled)
    world.advance(1000.0)

    assert 1000 / 15 * 2 * 2 <= len(world.dialled) - knocked <= 1000 / 7.5 * 2 * 2 + 4, "each monitor, either way"
    assert isinstance(world.core.mds.barred, AuthError)
    assert "client.admin is unknown to the cluster" in world.happened("login.refused")[0]["error"]
    assert world.session.state == "open"
    assert not isinstance(world.results[world.getattr(ino=1)], Exception)

    world.keys.principals[str(ADMIN)] = key
    world.advance(15.0, until=lambda: world.core.monitors.ready)

    assert world.core.mds.barred is None
    assert world.tickets.global_id == 4100
    assert world.session.state == "open"


def test_a_client_whose_key_is_deleted_loses_a_session_once_it_has_no_ticket_to_resume_it_with() -> None:
    world = mounted()
    del world.keys.principals[str(ADMIN)]
    world.advance(SERVICE_VALIDITY + 30)
    assert world.session.state == "open"
    pending = world.getattr()

    world.lose(world.ranks[0])
    world.advance(5.0)

    error = world.results[pending]
    assert isinstance(error, SessionLost)
    assert error.reason == "rejected"
    assert "client.admin is unknown to the cluster" in str(error)


def test_an_answer_that_is_no_answer_costs_the_connection_and_no_more() -> None:
    world = mounted()
    world.mons[0].peer.send(MAuthReply(2, 0, 4100, b"\x00\x02nonsense", ""))
    world.run()
    assert not world.core.monitors.ready

    world.advance(5.0, until=lambda: world.core.monitors.ready)

    assert world.core.monitors.ready
    assert world.session.state == "open"


def test_tickets_can_be_had_in_secure_mode_too() -> None:
    world = mounted(mode=ConMode.SECURE)

    world.advance(SERVICE_VALIDITY)

    assert world.tickets.held[EntityType.MDS].expires > world.now


def test_without_keys_nothing_is_renewed() -> None:
    world = mounted(type=None)

    world.advance(2 * SERVICE_VALIDITY)

    assert world.mons[0].peer.got(MAuth) == []
    assert world.tickets.global_id == 4100


# Signs of life


def test_an_idle_monitor_is_asked_for_a_sign_of_life_and_kept() -> None:
    world = mounted()

    world.advance(5 * PING_INTERVAL)

    assert len(world.mons[0].peer.got_frames(Keepalive2)) == 5
    assert len(world.happened("mon.connected")) == 1


def test_a_monitor_that_falls_silent_is_left_for_another() -> None:
    world = mounted(mons=2)
    silent = next(monitor for monitor in world.mons if monitor.peers)
    silent.peer.answers[Keepalive2] = lambda frame: ()
    silent.mood = "dead"

    world.advance(PING_TIMEOUT)
    assert not world.happened("mon.lost")
    world.advance(PING_INTERVAL + 2)

    assert world.happened("mon.lost")[0]["peer"] == str(silent.addr)
    assert "silent for" in world.happened("mon.lost")[0]["error"]
    assert world.dialled[-1] != silent.addr
    assert world.core.monitors.ready


def test_a_client_that_was_frozen_does_not_take_its_monitor_for_dead() -> None:
    world = mounted()
    for slept in (25.0, 100.0, 1000.0):
        world.advance(3.0)
        wake(world, slept)
        world.advance(3 * PING_INTERVAL)

    assert world.happened("mon.lost") == []


def test_a_monitor_that_died_while_the_client_was_frozen_is_left_soon_after() -> None:
    world = mounted(mons=2)
    world.advance(PING_INTERVAL)
    dead = standing(world)
    dead.peer.answers[Keepalive2] = lambda frame: ()

    wake(world, 600.0)
    world.advance(PING_TIMEOUT)

    assert standing(world) is not dead


# The end


def test_a_wrong_key_fails_the_mount_at_once() -> None:
    world = World()
    world.keys.add("client.admin")  # another key than the client's

    token = world.call(Mount(), 10.0)

    error = world.results[token]
    assert isinstance(error, AuthError)
    assert f"mon at {world.mons[0].addr} refused us: client.admin is unknown to the cluster" in str(error)


def test_a_monitor_that_proves_nothing_fails_the_mount_at_once() -> None:
    world = World()
    world.mons[0].arrived = lambda peer: peer.answers.update({AuthRequest: lambda frame: AuthDone(1, 1, b"")})

    token = world.call(Mount(), 10.0)

    assert isinstance(world.results[token], AuthError)
    assert "it is not to be trusted" in str(world.results[token])


def test_a_client_that_has_left_wants_nothing_more() -> None:
    world = mounted()
    token = world.call(Close())
    assert token in world.results

    world.core.stop(world.now)
    world.run()

    assert not world.links
    assert world.core.next_deadline() == float("inf")
    world.core.tick(world.now + 1e6)
    assert not world.core.out


def test_there_is_always_a_next_deadline() -> None:
    world = World(mons=2)
    moods = ["dead", "silent", "stranger", "well", "silent", "well", "dead"]
    world.core.tick(world.now)
    for mood in moods:
        for monitor in world.mons:
            monitor.mood = mood
        world.run()
        for _ in range(40):
            assert world.core.next_deadline() < float("inf")
            world.advance(0.25)
        for monitor in world.mons:
            world.lose(monitor)


def test_an_ipv6_monitor_is_like_any_other() -> None:
    world = World()
    addr = EntityAddr.make(2, "2001:db8::1", 3300)
    monitor = Monitor(world, addr)
    world.daemons = {addr: monitor}
    world.core.monitors._candidates = (addr,)

    connecting(world)

    assert world.dialled == [addr]
    assert world.core.monitors.ready
