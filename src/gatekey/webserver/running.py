"""Reads `nginx -T`: which server is the default of a socket, what it says about sessions and protocols, and how it must be changed. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from typing import NamedTuple

from ..errors import Malformed
from .nginx import DEFAULT_FILE
from .site import ANY

#: Budget for other people's configuration: bytes of the dump, and how deep blocks and includes may nest.
MOST_BYTES = 1024 * 1024 * 1024
MOST_DEPTH = 24

Socket = tuple[str, int]

#: What the default server of a private site's socket must say. Under TLS 1.3 its word counts for every server of the socket.
REQUIRED = {"ssl_session_cache": ("off",), "ssl_session_tickets": ("off",), "ssl_protocols": ("TLSv1.2", "TLSv1.3")}
_TICKET_KEY = "ssl_session_ticket_key"


class Directive(NamedTuple):
    """One directive. `block`: what stands between its braces, or None. `start`, `body`, `end`: offsets in the text of `file`; `body` is behind the brace."""

    name: str
    words: tuple[str, ...]
    block: tuple[Directive, ...] | None
    file: str
    line: int
    start: int
    body: int
    end: int

    def within(self, name: str) -> list[Directive]:
        return [d for d in self.block or () if d.name == name]


class Server(NamedTuple):
    """A `server {}`. `listens`: socket -> whether it says default_server. `said`: the directives that count for it, inherited ones too."""

    directive: Directive
    names: tuple[str, ...]
    listens: dict[Socket, bool]
    said: dict[str, Directive]

    @property
    def place(self) -> str:
        return f"{self.directive.file}:{self.directive.line}"

    @property
    def title(self) -> str:
        return " ".join(self.names) or "without a name"


class Default(NamedTuple):
    """The default server of a socket. `explicit`: it says so itself; otherwise it only came first."""

    server: Server
    explicit: bool

    @property
    def ours(self) -> bool:
        return f"/{DEFAULT_FILE}" in f"/{self.server.directive.file}"

    @property
    def replaceable(self) -> bool:
        """Whether a default server of our own may be written: nginx takes one for a socket, and the first only where none says it is the default."""
        return self.ours or not self.explicit

    @property
    def missing(self) -> dict[str, tuple[str, ...]]:
        """What it must say and does not."""

        def says(name: str, words: tuple[str, ...]) -> bool:
            said = self.server.said.get(name)
            return said is not None and bool(said.words) and set(said.words) <= set(words)

        return {name: words for name, words in REQUIRED.items() if not says(name, words)}

    @property
    def mendable(self) -> bool:
        """Whether `mended` can write it: not where an included file says otherwise, and not against a ticket key that http {} hands down."""
        for name in (*self.missing, _TICKET_KEY):
            said = self.server.said.get(name)
            own = said is not None and any(said is d for d in self.server.directive.block or ())
            if said is not None and ((own and said.file != self.server.directive.file) or (not own and name == _TICKET_KEY)):
                return False
        return True

    def advice(self, where: Socket) -> tuple[str, ...]:
        """Sentences that say what must stand in this server, or what changes when ours takes its place."""
        server, socket = self.server, f"{where[0]}:{where[1]}"
        if self.ours:
            return ()
        if not self.explicit:
            was = f"{server.place} (server_name {server.title}) was the default of {socket} because it comes first"
            return (f"{was}; from now on a visitor of {socket} without a known name gets no handshake",)
        told = []
        if missing := self.missing:
            lines = " ".join(f"{name} {' '.join(words)};" for name, words in missing.items())
            told.append(
                f"{server.place} (server_name {server.title}) is the default server of {socket} and decides for all servers of that socket: "
                f"put `{lines}` into it, or a revoked person comes back with an old TLS 1.3 session"
            )
        if key := server.said.get(_TICKET_KEY):
            told.append(f"take ssl_session_ticket_key out of {key.file}:{key.line}: with a fixed key a session can be prolonged without end")
        return tuple(told)


class Running(NamedTuple):
    """What nginx runs with. `files`: path -> text; `http_directives`: those that stand directly in `http {}`.

    `main_includes`, `http_includes`: the patterns that it includes at these two levels, absolute.
    """

    main_file: str
    files: dict[str, str]
    shutdown_timeout: bool
    http_directives: dict[str, Directive]
    servers: tuple[Server, ...]
    main_includes: tuple[str, ...] = ()
    http_includes: tuple[str, ...] = ()

    def default_server(self, where: Socket) -> Default | None:
        """The default server of a socket, or None where nobody listens."""
        there = [server for server in self.servers if where in server.listens]
        if not there:
            return None
        return next((Default(server, explicit=True) for server in there if server.listens[where]), Default(there[0], explicit=False))


def read_running(dump: str) -> Running:
    """What `nginx -T` printed, understood. Raises Malformed("bad-nginx-dump") for text that is no such dump."""
    if len(dump) > MOST_BYTES:
        raise _malformed(f"it has {len(dump)} characters, more than the {MOST_BYTES} that are read")
    files = _files(dump)
    if not files:
        raise _malformed("it holds no line `# configuration file PATH:`")
    return read_files(next(iter(files)), files)


def read_files(main_file: str, files: dict[str, str]) -> Running:
    """The same out of the files themselves: path -> text of everything that `main_file` includes."""
    main = parse(files[main_file], main_file)
    tree = tuple(_expanded(main, files, main_file, 0))
    http = [d for block in tree if block.name == "http" for d in block.block or ()]
    return Running(
        main_file,
        files,
        any(d.name == "worker_shutdown_timeout" for d in tree),
        {d.name: d for d in http if d.block is None},
        tuple(_server(d, http) for d in http if d.name == "server" and d.block is not None),
        tuple(_patterns(main, files, main_file, 0)),
        tuple(pattern for d in main if d.name == "http" for pattern in _patterns(d.block or (), files, main_file, 0)),
    )


def relocated(text: str, file: str, root: str) -> str:
    """`text` with every absolute include pointing below `root`: for a copy of the whole tree that nginx can test."""
    if "include" not in text:
        return text
    out, at = [], 0
    for directive in _all(parse(text, file)):
        if directive.name == "include" and directive.words and directive.words[0].startswith("/"):
            out += [text[at : directive.start], f'include "{root}{directive.words[0]}";']
            at = directive.end
    return "".join([*out, text[at:]])


def with_include(text: str, file: str, pattern: str) -> str:
    """`text` with one more include at the end of its `http {}`; "" where it has none."""
    http = next((directive for directive in parse(text, file) if directive.name == "http" and directive.block is not None), None)
    return f'{text[: http.end - 1]}\n    include "{pattern}";\n{text[http.end - 1 :]}' if http else ""


def _all(directives: tuple[Directive, ...]) -> Iterator[Directive]:
    for directive in directives:
        yield directive
        yield from _all(directive.block or ())


def _patterns(directives: tuple[Directive, ...], files: dict[str, str], main_file: str, depth: int) -> Iterator[str]:
    """What is included at one level, also by included files."""
    for directive in directives:
        if directive.name == "include" and directive.words and depth < MOST_DEPTH:
            pattern = _absolute(directive.words[0], main_file)
            yield pattern
            for path in included(pattern, files):
                yield from _patterns(parse(files[path], path), files, main_file, depth + 1)


def mended(text: str, default: Default) -> str:
    """The file of a default server with the missing lines in it. Whatever it said against them is taken out."""
    server = default.server.directive
    wrong = {*default.missing, _TICKET_KEY}
    out = [text[: server.body], "\n    # Gatekey: a private site shares this socket, and the default server decides about sessions for all of them.\n"]
    at = server.body
    out += [f"    {name} {' '.join(words)};\n" for name, words in default.missing.items()]
    for directive in sorted((d for d in server.block or () if d.name in wrong and d.file == server.file), key=lambda d: d.start):
        out.append(text[at : directive.start])
        at = directive.end
    return "".join([*out, text[at:]])


_MARK = re.compile(r"^# configuration file (.+):$", re.MULTILINE)


def _files(dump: str) -> dict[str, str]:
    marks = list(_MARK.finditer(dump))
    if not marks:
        return {}
    ends = [mark.start() for mark in marks[1:]] + [len(dump)]
    files: dict[str, str] = {}
    for mark, end in zip(marks, ends, strict=True):
        # nginx writes a newline behind the mark and one behind the text.
        files.setdefault(mark[1], dump[mark.end() + 1 : end].removesuffix("\n"))
    return files


_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    | (?P<comment>\#[^\n]*)
    | (?P<quoted>"(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*')
    | (?P<sign>[{};])
    | (?P<word>(?:\\.|\$\{[^}]*\}|[^\s{};"'\\])(?:\\.|\$\{[^}]*\}|[^\s{};\\])*)""",
    re.DOTALL | re.VERBOSE,
)


def parse(text: str, file: str) -> tuple[Directive, ...]:
    """The directives of one file. Raises Malformed("bad-nginx-dump")."""
    tokens = _tokens(text, file)
    return tuple(_block(text, file, tokens, 0))


def _tokens(text: str, file: str) -> Iterator[tuple[str, str, int, int]]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _malformed(f"{file}:{text.count(chr(10), 0, at) + 1} cannot be read")
        at = match.end()
        kind = match.lastgroup or ""
        if kind not in ("space", "comment"):
            word = match[0]
            if kind == "quoted":
                word = re.sub(r"\\(.)", r"\1", word[1:-1], flags=re.DOTALL)
            yield kind, word, match.start(), match.end()


def _block(text: str, file: str, tokens: Iterator[tuple[str, str, int, int]], depth: int) -> Iterator[Directive]:
    if depth > MOST_DEPTH:
        raise _malformed(f"blocks of {file} are nested deeper than {MOST_DEPTH}")
    words: list[str] = []
    start = 0
    line, counted = 1, 0
    for kind, word, begin, end in tokens:
        if kind != "sign":
            if not words:
                start = begin
            words.append(word)
            continue
        if word == "}":
            if words or not depth:
                raise _malformed(f"{file} has a closing brace out of place")
            return
        if not words:
            raise _malformed(f"{file} has {word!r} without a directive")
        line, counted = line + text.count("\n", counted, start), start
        if word == ";":
            yield Directive(words[0], tuple(words[1:]), None, file, line, start, start, end)
        elif words[0].endswith("_by_lua_block"):
            raise _malformed(f"{file} has Lua in it, which is not read")
        else:
            closing = [end]
            inner = tuple(_block(text, file, _watched(tokens, closing), depth + 1))
            yield Directive(words[0], tuple(words[1:]), inner, file, line, start, end, closing[0])
        words = []
    if words or depth:
        raise _malformed(f"{file} ends in the middle of a directive")


def _watched(tokens: Iterator[tuple[str, str, int, int]], last: list[int]) -> Iterator[tuple[str, str, int, int]]:
    for token in tokens:
        last[0] = token[3]
        yield token


def _expanded(directives: tuple[Directive, ...], files: dict[str, str], main_file: str, depth: int) -> Iterator[Directive]:
    """The directives with every include replaced by what it includes, as far as it matters: a map of a million lines is not read."""
    if depth > MOST_DEPTH:
        raise _malformed(f"includes are nested deeper than {MOST_DEPTH}")
    for directive in directives:
        if directive.name == "include" and directive.words:
            for path in included(_absolute(directive.words[0], main_file), files):
                yield from _expanded(parse(files[path], path), files, main_file, depth + 1)
        elif directive.block is not None and directive.name in ("http", "server"):
            yield directive._replace(block=tuple(_expanded(directive.block, files, main_file, depth + 1)))
        else:
            yield directive


def _absolute(pattern: str, main_file: str) -> str:
    return pattern if pattern.startswith("/") else f"{main_file.rpartition('/')[0]}/{pattern}"


def included(pattern: str, paths: Iterable[str]) -> list[str]:
    """Which of `paths` an include of `pattern` reads, in nginx's order."""
    return sorted(path for path in paths if path == pattern or _globbed(path, pattern))


def _globbed(path: str, pattern: str) -> bool:
    """As glob(3) does it: no wildcard crosses a slash or takes a leading dot."""
    parts, patterns = path.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(fnmatch(a, b) and (not a.startswith(".") or b.startswith(".")) for a, b in zip(parts, patterns, strict=True))


#: Directives that a server inherits from http, as far as anybody here asks.
_INHERITED = (*REQUIRED, _TICKET_KEY)


def _server(directive: Directive, http: list[Directive]) -> Server:
    said = {d.name: d for d in http if d.name in _INHERITED}
    said.update({d.name: d for d in directive.block or () if d.block is None})
    listens: dict[Socket, bool] = {}
    for listen in directive.within("listen"):
        where = _socket(listen.words[0]) if listen.words else None
        if where:
            listens[where] = listens.get(where, False) or "default_server" in listen.words or "default" in listen.words
    names = tuple(name for d in directive.within("server_name") for name in d.words)
    return Server(directive, names, listens or {(ANY, 80): False}, said)


def _socket(word: str) -> Socket | None:
    match = re.fullmatch(r"(?:(\*|\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):)?([0-9]{1,5})", word)
    if match:
        host, port = match[1] or "*", int(match[2])
    else:
        host, port = word, 80
        if word.startswith("unix:") or not re.fullmatch(r"\*|\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+", word):
            return None
    return host.strip("[]").replace("*", ANY), port


def _malformed(what: str) -> Malformed:
    hint = "run `nginx -T` yourself and look at that place"
    return Malformed("bad-nginx-dump", f"the configuration that nginx printed cannot be understood: {what}", hint=hint)
