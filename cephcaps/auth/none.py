"""Method none: a cluster that takes everybody's word for who they are. For test clusters."""

from __future__ import annotations

from cephcaps.auth.authenticator import NO_SECRETS, Secrets
from cephcaps.auth.cephx import Tickets
from cephcaps.errors import AuthError
from cephwire.cephx import MON_AUTH_REQUEST, NONE_AUTHORIZER, MonAuthRequest, NoneAuthorizer
from cephwire.codec import Codec
from cephwire.control import AuthBadMethod, AuthDone, AuthMethod

__all__ = ["NoneAuth"]

mon_auth_requests: Codec[MonAuthRequest] = Codec(MON_AUTH_REQUEST)
authorizers: Codec[NoneAuthorizer] = Codec(NONE_AUTHORIZER)


class NoneAuth:
    """Names us to a monitor, which gives the global id, or to a service."""

    def __init__(self, tickets: Tickets, *, to_mon: bool) -> None:
        self._tickets = tickets
        self._to_mon = to_mon

    def request(self) -> tuple[AuthMethod, bytes]:
        if self._to_mon:
            return AuthMethod.NONE, mon_auth_requests.encode(
                MonAuthRequest(self._tickets.name, self._tickets.global_id)
            )
        return AuthMethod.NONE, authorizers.encode(NoneAuthorizer(self._tickets.name, self._tickets.global_id))

    def more(self, payload: bytes) -> bytes:
        raise AuthError("the peer asks for proof under method none, which has none")

    def refused(self, answer: AuthBadMethod) -> tuple[AuthMethod, bytes]:
        raise AuthError(
            f"the peer does not take {self._tickets.name} unauthenticated (error {answer.result}): "
            "set `auth client required = cephx` and give a keyring"
        )

    def done(self, answer: AuthDone, now: float) -> Secrets:
        if self._to_mon:
            self._tickets.global_id = answer.global_id
        return NO_SECRETS
