"""Requests on their way: which rank to ask, the session to ask it in, and what becomes of replies and forwards."""

from __future__ import annotations

import errno

from cephcaps.actions import Action, Done, Failed
from cephcaps.auth.cephx import CephxAuthorizer, Tickets
from cephcaps.auth.none import NoneAuth
from cephcaps.commands import Commands
from cephcaps.engine import quota
from cephcaps.engine.cache import NeedSession, Send
from cephcaps.engine.engine import Engine
from cephcaps.engine.inode import Inode
from cephcaps.errors import CephError, ConnectionFailed, MdsError, RequestTimeout
from cephcaps.mds.carrier import STEADY
from cephcaps.mds.host import SessionHost
from cephcaps.mds.locks import Locks
from cephcaps.mds.ranks import describe, is_active, lowest_active, serving
from cephcaps.mds.requests import NAME_OPS, Answer, Operation, Request, Requests
from cephcaps.mds.session import Session
from cephcaps.mds.waits import Waits
from cephcaps.messenger.connection import Connection, Owner
from cephcaps.messenger.link import Instance, Link
from cephcaps.messenger.v1 import ConnectionV1
from cephcaps.messenger.v2 import ConnectionV2
from cephwire.commands import Command
from cephwire.control import ConMode
from cephwire.entity import AddrType, EntityAddr, EntityType, address_of, addresses
from cephwire.mdsmap import MdsInfo, MdsMap
from cephwire.reply import ClientReply, ClientRequestForward
from cephwire.request import NO_OWNER, ClientRequest, RequestFlag, RequestRelease
from cephwire.requestop import RequestOp
from cephwire.session import ClientFeature

__all__ = ["Credentials", "Router"]

NEVER = float("inf")
NOWHERE = EntityAddr(AddrType.NONE, 0, b"")
MOST_FORWARDS = 1000
"""How often ranks pass a request on to each other before it fails: none of them is in charge. Linux and libcephfs give
up where the MDSs' count has run over (kernel: fs/ceph/mds_client.c, ``handle_forward``)."""


class Credentials:
    """What every connection of a client shares: who it is, to each kind of daemon."""

    def __init__(self, tickets: Tickets, instance: Instance, uid: int, gid: int, groups: tuple[int, ...]) -> None:
        self.tickets = tickets
        self.instance = instance
        self.uid = uid
        self.gid = gid
        self.groups = groups


class Router(SessionHost):
    """Sends requests to the right rank and gives their results back.

    Attributes:
        mdsmap: the newest map of our file system, None before the first.
        fsid: the cluster's UUID, 16 bytes; empty before the first map.
        sessions: by rank, those that were ever opened and not yet closed.
        commands: on their way.
        unmatched: replies that belong to no request of ours.
        tickets_wanted: a session waits for a ticket.
        barred: why no MDS will let us in any more; None while they may.
    """

    def __init__(
        self,
        credentials: Credentials,
        con_modes: tuple[ConMode, ...],
        metadata: dict[str, str],
        out: list[Action],
    ) -> None:
        self.out = out
        self.mdsmap: MdsMap | None = None
        self.sessions: dict[int, Session] = {}
        self.requests: Requests = Requests()
        self.commands: Commands = Commands(out)
        self.engine: Engine = Engine()
        self.waits: Waits = Waits(self.engine, self.requests)
        self.locks: Locks = Locks(self.engine.cache, self.requests, self._route, out)
        self.engine.unsafe = lambda ino: self.requests.unsafe(ino, self.requests.last_tid) is not None
        self.fsid = b""
        self.unmatched: int = 0
        self.first_pause: float = 0.2
        self.max_pause: float = 15.0
        self.tickets_wanted: bool = False
        self.barred: CephError | None = None
        self.con_modes = con_modes
        self._credentials = credentials
        self._metadata = metadata
        self._closing: int | None = None  # the token of the call that closes us
        self._needed: dict[int, None] = {}  # ranks that take caps of ours over
        self._begun: dict[int, tuple[float, int]] = {}  # newest: when, and how many before it were brief

    def _check_waits(self, now: float) -> None:
        """Something has become safe."""
        raise NotImplementedError

    def call(self, token: int, operation: Operation, deadline: float, now: float) -> None:
        """Carry out ``operation``; Done brings an Answer."""
        refused = quota.refusal(self.engine.cache, operation.op, operation.path.ino, operation.path2.ino)
        if refused:
            self.out.append(Failed(token, MdsError(refused, None, operation.what)))
            return
        self._route(self.requests.add(token, operation, deadline, now), now)

    def _route(self, request: Request, now: float) -> None:
        """Send ``request`` where it belongs, or leave it until that is possible."""
        rank = request.rank if request.rank is not None else self._choose(request.operation)
        if rank is None:
            return
        request.rank = rank
        session = self.session(rank, now)
        if session is not None and session.usable:
            self._send(session, request, now)
        elif session is not None and session.final is not None:
            self._give_up(request, session.final)

    def _choose(self, operation: Operation) -> int | None:
        """The rank to ask: an inode's authority, who would be asked in the end; another passes on what has a name."""
        inode = self.engine.cache.inodes.get(operation.path.ino) if not operation.path.path else None
        if inode is not None and self.mdsmap is not None and is_active(self.mdsmap, inode.auth_rank):
            return inode.auth_rank
        return lowest_active(self.mdsmap)

    def _route_waiting(self, now: float) -> None:
        for request in self.requests:
            if not request.sent:
                self._route(request, now)
        self.send_commands(now)

    def send_commands(self, now: float) -> None:
        """Send what is to be asked of ranks with which there is a session."""
        for rank in self.commands.ranks:
            session = self.session(rank, now)
            if session is not None and session.usable:
                for asked in self.commands.waiting(rank):
                    asked.sent = True
                    session.send(Command(self.fsid, (asked.command.words,)), tid=asked.tid)
            elif session is not None and session.final is not None:
                self.commands.fail(rank, session.final)

    def session(self, rank: int, now: float) -> Session | None:
        """The session with ``rank``, opened if need be; None while that rank serves nobody."""
        session = self.sessions.get(rank)
        if session is not None and (session.final is not None or session.state != "closed"):
            return session
        if self.mdsmap is None or (self._closing is not None and rank not in self._needed):
            return None
        info = serving(self.mdsmap).get(rank)
        if info is None:
            return None
        addr = self.address(info)
        named = next(iter(addresses(info.addrs)), NOWHERE)
        session = self.sessions[rank] = Session(self, rank, info, addr or named, self._metadata)
        if addr is None:
            session.refuse(ConnectionFailed(f"{session.who} {self._foreign}"))
            return session
        session.cap_gen = self.engine.cache.rank(rank).gen  # what was leased before it counts no more
        session.renewals.set_timeout(self.mdsmap.session_timeout)
        self._begin(session, now)
        return session

    def _begin(self, session: Session, now: float) -> None:
        """Connect: at once, unless the MDS has ended the last two sessions as soon as they began."""
        began, brief = self._begun.get(session.rank, (-NEVER, 0))
        brief = brief + 1 if now < began + STEADY else 0
        at = now + min(self.first_pause * 2 ** (brief - 2), self.max_pause) if brief > 1 else now
        self._begun[session.rank] = at, brief
        if at > now:
            session.carrier.wait(at)
        else:
            session.connect(now)

    def address(self, info: MdsInfo) -> EntityAddr | None:
        """Where to reach an MDS; None where it does not speak our messenger."""
        return address_of(info.addrs, self._credentials.instance.messenger)

    @property
    def _foreign(self) -> str:
        """What is wrong with an MDS without an address for our messenger."""
        if self._credentials.instance.messenger is AddrType.LEGACY:
            return "does not speak messenger v1: connect with another ms_mode than 'legacy'"
        return "speaks messenger v1 only: connect with ms_mode='legacy'"

    def _send(self, session: Session, request: Request, now: float) -> None:
        operation = request.operation
        self._flush_directories(operation, now)
        releases = self.engine.request_releases(
            session.rank, operation.op, operation.path, operation.path2, operation.drop, now
        )
        self._carry_out(now)
        if request.reserved is None:
            request.reserved = self.engine.reserve(operation.brings)
        self._write(session, request, releases)  # raises where an argument fits no message: then it was never sent
        request.sent = True
        request.sent_at = now

    def _send_again(self, session: Session, request: Request, now: float) -> None:
        """Send what a former holder of the rank has answered unsafely or not at all. It knows of no cap of ours yet, so
        nothing is given back along with it (kernel: ``replay_unsafe_requests``)."""
        request.num_retry += 1
        self._write(session, request, ())
        request.sent_at = now

    def _write(self, session: Session, request: Request, releases: tuple[RequestRelease, ...]) -> None:
        assert self.mdsmap is not None
        operation, who = request.operation, self._credentials
        uid, gid, groups = operation.caller or (who.uid, who.gid, who.groups)
        message = ClientRequest(
            head_version=_head_version(session.features),
            oldest_client_tid=self.requests.oldest_tid(),
            mdsmap_epoch=self.mdsmap.epoch,
            flags=RequestFlag.REPLAY if request.unsafe else 0,
            num_retry=request.num_retry & 0xFF,
            num_fwd=request.num_fwd & 0xFF,
            op=operation.op,
            caller_uid=uid,
            caller_gid=gid,
            ino=request.created,
            args=operation.args,
            path=operation.path,
            path2=operation.path2,
            releases=releases,
            stamp=operation.stamp,
            data=operation.data,
            ext_num_retry=request.num_retry,
            ext_num_fwd=request.num_fwd,
            gid_list=groups,
            owner_uid=uid if operation.creates else NO_OWNER,
            owner_gid=gid if operation.creates else NO_OWNER,
        )
        session.send(message, tid=request.tid)

    def _flush_directories(self, operation: Operation, now: float) -> None:
        """Times set here on a directory go ahead of a change of its names: flushed later, they would undo what that
        does to them."""
        if operation.writes:
            for path in (operation.path, operation.path2):
                if path.ino and path.path:
                    self.engine.flush_times(path.ino, now)

    # Connections

    def make_connection(self, owner: Owner, addr: EntityAddr, link: Link, now: float) -> Connection | None:
        who = self._credentials
        authenticator: NoneAuth | CephxAuthorizer
        if who.tickets.key is None:
            authenticator = NoneAuth(who.tickets, to_mon=False)
        else:
            ticket = who.tickets.usable(EntityType.MDS, now)
            if ticket is None:
                if self.barred is not None:
                    raise self.barred
                self.tickets_wanted = True
                return None
            authenticator = CephxAuthorizer(who.tickets, EntityType.MDS, ticket)
        if who.instance.messenger is AddrType.LEGACY:
            return ConnectionV1(owner, who.instance, authenticator, EntityType.MDS, addr, who.tickets.global_id, link)
        return ConnectionV2(
            owner, who.instance, authenticator, EntityType.MDS, addr, self.con_modes, who.tickets.global_id, link
        )

    def new_link(self) -> Link:
        return Link(self._credentials.tickets.random_u64() or 1)

    def fraction(self) -> float:
        return self._credentials.tickets.fraction()

    # What becomes of a request

    def _give_up(self, request: Request, error: Exception) -> None:
        """Nobody will ever answer it."""
        self._fail(request, error)
        self.requests.finish(request)

    def _fail(self, request: Request, error: Exception) -> None:
        token = self.requests.release(request, None, error)
        if token is not None:
            self.out.append(Failed(token, error))

    def _reply(self, session: Session, tid: int, reply: ClientReply, now: float) -> None:
        request = self.requests.by_tid.get(tid)
        if request is None or request.rank != session.rank:
            # Ours all the same: what it grants is held now, and must be known when it is asked back.
            self.unmatched += 1
            self.engine.reply(session.rank, reply, now, now)
            self._carry_out(now)
            return
        operation = request.operation
        inode, listed = self.engine.reply(
            session.rank, reply, request.sent_at, now, listing=operation.listing, reserved=request.reserved
        )
        if operation.lock is not None:
            self.locks.answered(request, reply.result, now)
            return
        token = self.requests.answered(request, session.rank, reply.result, now)
        if not request.unsafe and not reply.result:
            self._applied(operation, reply, inode, token is None, now)
        if inode is not None and operation.writes:
            self.requests.changes(request, inode.ino)
            if operation.creates and not reply.safe:
                request.created = inode.ino
        if token is not None and reply.result < 0:
            self.out.append(Failed(token, MdsError(min(-reply.result, 2**31 - 1), None, operation.what)))
        elif token is not None:
            self.out.append(Done(token, Answer(reply, inode, listed, operation.file_mode)))
        request.unsafe = not reply.safe
        if request.unsafe and self.waits.need(request):
            session.flush_journal()  # what was asked for before it was applied has passed it by
        if reply.safe:
            self.requests.finish(request)
            self._check_waits(now)
        self._carry_out(now)

    def _applied(
        self, operation: Operation, reply: ClientReply, inode: Inode | None, abandoned: bool, now: float
    ) -> None:
        """An operation has succeeded: see to what the reply does not tell."""
        dentries, old = self.engine.dentries, operation.path2
        if operation.op == RequestOp.RENAME:
            dentries.gone(old.ino, old.path)
        if operation.op in NAME_OPS and not reply.is_dentry:  # the MDS may not know any more: it answers a replay so
            dentries.forget(operation.path.ino, operation.path.path)
        if operation.file_mode is not None and inode is not None:
            self.engine.opened(inode.ino, operation.file_mode, now)
            if abandoned:
                self.engine.closed(inode.ino, operation.file_mode, now)

    def _forward(self, tid: int, message: ClientRequestForward, now: float) -> None:
        """Another rank is in charge: send it there ourselves."""
        request = self.requests.by_tid.get(tid)
        if request is None or message.num_fwd <= request.num_fwd:
            return  # an old one, overtaken
        if message.num_fwd > MOST_FORWARDS:
            self._give_up(request, MdsError(errno.EMULTIHOP, None, request.operation.what))
            return
        request.num_fwd = message.num_fwd
        request.rank = message.dest_mds
        request.sent = False
        self._route(request, now)

    def _carry_out(self, now: float) -> None:
        """Send what the engine wants sent, in its order."""
        wanted = self.engine.cache.out
        if not wanted:
            return
        self.engine.cache.out = []
        for action in wanted:
            match action:
                case Send():
                    session = self.sessions.get(action.rank)
                    if session is not None and session.speaking:
                        session.send(action.message, tid=action.tid, version=action.version)
                case NeedSession():
                    self._needed[action.rank] = None
                    self._open_needed(now)
                case _:
                    self.out.append(action)

    def _open_needed(self, now: float) -> None:
        """Open sessions with ranks that take caps of ours over, as soon as the map shows who they are."""
        for rank in list(self._needed):
            if self.session(rank, now) is not None:
                del self._needed[rank]

    def _timed_out(self, request: Request) -> RequestTimeout:
        session = self.sessions.get(request.rank) if request.rank is not None else None
        if session is None:
            awaited = f"an active MDS; {describe(self.mdsmap)}"
        elif not session.usable:
            awaited = f"a session with {session.who}" + (f" ({session.why})" if session.why else "")
        elif request.operation.lock is not None and request.operation.lock.wait:
            awaited = "the lock, which somebody else holds"
        else:
            awaited = f"the answer of {session.who}"
        tid = request.tid if request.sent else None
        return RequestTimeout(f"{request} timed out awaiting {awaited}", tid=tid, rank=request.rank, awaited=awaited)


def _head_version(features: int) -> int:
    """The newest layout of a request's head that the MDS reads."""
    if not features >> ClientFeature.RETRY_FWD_32BITS & 1:
        return 1
    return 3 if features >> ClientFeature.HAS_OWNER_UIDGID & 1 else 2
