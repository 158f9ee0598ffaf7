"""People, their groups, devices and roles; the tokens that speak for them; and who is asking."""

from __future__ import annotations

from ...authority import access, people
from ...authority import revoke as revocation
from ...errors import Malformed, NotFound
from ...model.access import ROLES, SCOPES
from ...model.holder import Holder
from ..message import Answer, as_json
from . import answers
from .asking import Ask, Route, not_above
from .certificates import AFTER, LIMIT, NOTHING, ROWS
from .shapes import Field, Shape

_GROUPS = Field("groups", "texts", "groups", most=64)
_DEVICES = Field("devices", "texts", "devices", most=64)
_EMAIL = Field("email", "text", "unique; goes into certificates", most=254)
_NAME = Field("name", "text", "what the person is called, in any script")

LIST = Shape("PeopleQuery", (
    Field("group", "text", "only members of this group", most=64),
    Field("all", "flag", "also those who have left, and devices, services and servers"),
    AFTER,
    LIMIT,
))  # fmt: skip
ADD = Shape("PersonToAdd", (Field("login", "text", "what web servers and apps will read", True, least=1), _NAME, _EMAIL, _GROUPS, _DEVICES))
CHANGE = Shape("PersonChange", (
    _NAME,
    _EMAIL,
    _GROUPS._replace(name="add_groups", about="puts the person into these groups"),
    _GROUPS._replace(name="remove_groups", about="takes the person out of these groups"),
    _DEVICES._replace(name="add_devices", about="adds these devices"),
    _DEVICES._replace(name="remove_devices", about="forgets these devices"),
    Field("back", "flag", "the person left and has come back; the old certificates stay revoked"),
))  # fmt: skip
ROLES_WANTED = Shape("RolesWanted", (Field("roles", "texts", "exactly these from now on", True, choices=tuple(ROLES)),))
LEAVING = Shape("Leaving", (
    Field("login", "text", "who would leave", True),
    Field("certificates", "objects", "what would be revoked", True, shape=answers.CERTIFICATE),
    Field("roles", "texts", "roles that would end", True),
    Field("tokens", "texts", "tokens that would end", True),
    Field("last_administrator", "flag", "nobody would be administrator any more: it would be refused here", True),
))  # fmt: skip
TOKEN_WANTED = Shape("TokenWanted", (
    Field("login", "text", "for whom it speaks", True, most=254, least=1),
    Field("scopes", "texts", "what it may; never more than the holder's roles allow at the moment of use", True, choices=SCOPES, least=1),
    Field("about", "text", "what it is for"),
    Field("days", "number", "how long it is good (default 90)", most=access.MOST_DAYS, least=1),
))  # fmt: skip
TOKENS = Shape("TokensQuery", (Field("login", "text", "only those of this holder", most=254), AFTER, LIMIT))


def list_(ask: Ask) -> Answer:
    """Everybody, by login."""
    said = ask.query
    everyone, limit, after = said.get("all", False), said.get("limit", ROWS), said.get("after", "").lower()
    kinds = ("person", "device", "service", "server") if everyone else ("person",)
    found = ask.authority.reads.holders(*kinds, group=said.get("group", ""))
    rows = sorted((one for one in found if (everyone or not one.left_at) and one.login.lower() > after), key=lambda one: one.login.lower())
    return as_json({"items": [answers.holder(one) for one in rows[:limit]], "next": rows[limit - 1].login if len(rows) > limit else None})


def add(ask: Ask) -> Answer:
    """A new person."""
    said = ask.body
    holder = Holder(
        said["login"], "person", said.get("name", ""), said.get("email", ""), tuple(sorted(set(said.get("groups", ())))), tuple(said.get("devices", ()))
    )
    return as_json(_person(ask, people.add(ask.authority, holder)), status=201)


def show(ask: Ask) -> Answer:
    """One person and everything she has."""
    return as_json(_person(ask, people.get(ask.authority, ask.path["login"])))


def change(ask: Ask) -> Answer:
    """Changes what is given and leaves the rest."""
    said = ask.body
    holder = people.get(ask.authority, ask.path["login"])
    not_above(ask, holder.login)
    changed = people.change(
        ask.authority,
        holder.login,
        name=said.get("name"),
        email=said.get("email"),
        add_groups=said.get("add_groups", ()),
        remove_groups=said.get("remove_groups", ()),
        add_devices=said.get("add_devices", ()),
        remove_devices=said.get("remove_devices", ()),
        back=said.get("back", False),
    )
    return as_json(_person(ask, changed))


def _person(ask: Ask, holder: Holder) -> dict[str, object]:
    records = ask.authority.reads.by_holder(holder.login)
    roles = list(access.roles(ask.authority, holder.login))
    return {**answers.holder(holder), "roles": roles, "certificates": answers.certificates(ask.authority, records)}


def leaving(ask: Ask) -> Answer:
    """What a person's leaving would take away. Nothing is done."""
    holder = people.get(ask.authority, ask.path["login"])
    now = ask.authority.now()
    live = [one for one in ask.authority.reads.by_holder(holder.login) if one.alive(now)]
    tokens = [one.id for one in access.tokens(ask.authority, holder.login) if not one.revoked_at and one.expires_at > now]
    roles = list(access.roles(ask.authority, holder.login))
    last = access.is_last(ask.authority, holder.login)
    rows = answers.certificates(ask.authority, live)
    return as_json({"login": holder.login, "certificates": rows, "roles": roles, "tokens": tokens, "last_administrator": last})


def leave(ask: Ask) -> Answer:
    """A person leaves: certificates, roles and tokens end in one transaction. The only administrator stays."""
    holder = people.get(ask.authority, ask.path["login"])
    not_above(ask, holder.login)
    now = ask.authority.now()
    for issuer in {one.issuer for one in ask.authority.reads.by_holder(holder.login) if one.alive(now)}:
        ask.authority.signer(issuer)  # before anything changes: a revocation whose CRL cannot be signed would leave web servers behind
    what = revocation.leave(ask.authority, holder.login)
    return as_json(answers.taken(ask.authority, "revoked (affiliation-changed)", what, []))


def set_roles(ask: Ask) -> Answer:
    """A holder has exactly these roles from now on."""
    holder = people.get(ask.authority, ask.path["login"])
    wanted, before = set(ask.body["roles"]), set(access.roles(ask.authority, holder.login))
    roles = access.set_roles(ask.authority, holder.login, add=sorted(wanted - before), remove=sorted(before - wanted))
    return as_json({"login": holder.login, "roles": list(roles)})


def tokens(ask: Ask) -> Answer:
    """All tokens, never a secret."""
    said = ask.query
    limit, after = said.get("limit", ROWS), said.get("after", "")
    found = access.tokens(ask.authority, said.get("login", ""))
    if after:
        places = [place for place, one in enumerate(found) if one.id == after]
        if not places:
            raise Malformed("bad-request", "after: is not the `next` of a page")
        found = found[places[0] + 1 :]
    return as_json({"items": [answers.token(one) for one in found[:limit]], "next": found[limit - 1].id if len(found) > limit else None})


def make_token(ask: Ask) -> Answer:
    """A token for a holder. Its secret is told in this answer only."""
    said = ask.body
    made, secret = access.make_token(ask.authority, said["login"], said["scopes"], about=said.get("about", ""), days=said.get("days", 90))
    return as_json({**answers.token(made), "token": secret}, status=201)


def revoke_token(ask: Ask) -> Answer:
    """A token is worth nothing from now on."""
    revoked = access.revoke_token(ask.authority, ask.path["id"])
    found = next((one for one in access.tokens(ask.authority) if one.id == revoked), None)
    if found is None:
        raise NotFound("no-token", "there is no such token")
    return as_json(answers.token(found))


def me(ask: Ask) -> Answer:
    """Who has signed in, and what that allows."""
    caller = ask.caller
    roles = list(access.roles(ask.authority, caller.login))
    return as_json({"login": caller.login, "way": caller.way, "roles": roles, "scopes": list(caller.scopes)})


_ONE = "/v1/people/{login}"
ROUTES = (
    Route("GET", "/v1/me", "me", "Who has signed in, and what that allows", (), me, answer=answers.ME),
    Route("GET", "/v1/people", "listPeople", "Everybody, with groups and devices", ("read",), list_, query=LIST, answer=answers.HOLDERS),
    Route("POST", "/v1/people", "addPerson", "Add a person", ("people",), add, body=ADD, answer=answers.PERSON, status=201),
    Route("GET", _ONE, "showPerson", "One person and all certificates, by login or e-mail", ("read",), show, answer=answers.PERSON),
    Route("PATCH", _ONE, "changePerson", "Change what is said of a person", ("people",), change, body=CHANGE, answer=answers.PERSON),
    Route("PUT", f"{_ONE}/roles", "setRoles", "Give and take roles", ("manage",), set_roles, body=ROLES_WANTED, answer=answers.ROLES_OF),
    Route("GET", f"{_ONE}/leave", "previewLeave", "What would end if this person left", ("read",), leaving, answer=LEAVING),
    Route("POST", f"{_ONE}/leave", "leave", "A person leaves: everything is taken away", ("revoke",), leave, body=NOTHING, answer=answers.TAKEN),
    Route("GET", "/v1/tokens", "listTokens", "All tokens, without their secrets", ("read",), tokens, query=TOKENS, answer=answers.TOKENS),
    Route("POST", "/v1/tokens", "makeToken", "Make a token; told this once", ("manage",), make_token, body=TOKEN_WANTED, answer=answers.MADE_TOKEN,
          status=201, secrets=("token",)),
    Route("DELETE", "/v1/tokens/{id}", "revokeToken", "Revoke a token", ("manage",), revoke_token, answer=answers.TOKEN),
)  # fmt: skip
