"""A proxy of the tests' own between pgvigil and an S3 server, that does what networks and servers do on bad days.

    with FaultProxy(server.port) as proxy:
        proxy.on("PUT", "/pack/", answer(503, "SlowDown", {"Retry-After": "1"}), times=3)
        ... proxy.endpoint ...
        proxy.seen      [(method, path)] of all requests; proxy.signers: by which key each was signed

Signatures cover the Host header, which passes unchanged; RGW and Swift take it as it is.
"""

import contextlib
import re
import socket
import socketserver
import struct
import threading


def answer(status, code="", headers=None, body=None):
    """Instead of the server's: an S3 error, or `body` as it is."""
    text = body if body is not None else \
        f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>a bad day</Message></Error>"
    lines = [f"HTTP/1.1 {status} Bad Day", f"Content-Length: {len(text)}", "Connection: close",
             *(f"{k}: {v}" for k, v in (headers or {}).items())]
    whole = ("\r\n".join(lines) + "\r\n\r\n" + text).encode()

    def act(exchange):
        exchange.read_request()
        exchange.client.sendall(whole)
    return act


def reset(after=0, of="request"):
    """The connection is reset after so many bytes of the request's, or the answer's, body."""
    def act(exchange):
        if of == "request":
            exchange.read_request(most=after)
        else:
            exchange.forward(answer_most=after)
        exchange.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return act


def truncate(after):
    """The answer ends in good order after so many bytes of its body."""
    def act(exchange):
        exchange.forward(answer_most=after)
    return act


def lost_answer():
    """The server does what it is asked, and nobody hears of it."""
    def act(exchange):
        exchange.forward(answer_most=-1)
    return act


def corrupt(at=0):
    """One byte of the answer's body is another."""
    def act(exchange):
        exchange.forward(change=at)
    return act


def corrupt_request(at=0):
    """One byte of the request's body is another when the server gets it."""
    def act(exchange):
        exchange.forward(change_request=at)
    return act


def wrong_etag():
    """The answer names another ETag than the object has."""
    def act(exchange):
        exchange.forward(edit=lambda head: re.sub(rb'(?im)^(etag:) *"?[0-9a-f]+"?', rb'\1 "0123456789abcdef0123456789abcdef"',
                                                  head))
    return act


def expired(key_id):
    """What is signed by this key is refused; other keys are good."""
    def act(exchange):
        if exchange.signer == key_id:
            answer(400, "ExpiredToken")(exchange)
        else:
            exchange.forward()
    return act


def drip(rate):
    """The answer comes at so many bytes a second."""
    def act(exchange):
        exchange.forward(rate=rate)
    return act


def stall(seconds):
    def act(exchange):
        exchange.read_request()
        exchange.proxy.stopping.wait(seconds)
    return act


def slow(seconds):
    """The answer comes late."""
    def act(exchange):
        exchange.proxy.stopping.wait(seconds)
        exchange.forward()
    return act


class Exchange:
    """One request, read up to the end of its head."""

    def __init__(self, proxy, client, head, rest):
        self.proxy, self.client, self.head, self.rest = proxy, client, head, rest
        self.method, self.path = head.split(b" ", 2)[:2]
        self.method, self.path = self.method.decode(), self.path.decode()
        length = re.search(rb"(?im)^content-length: *(\d+)", head)
        self.length = int(length[1]) if length else 0
        self.expects = re.search(rb"(?im)^expect: *100", head)
        signer = re.search(rb"Credential=([^/]+)/", head)
        self.signer = signer[1].decode() if signer else None

    def body(self, most=None):
        if self.expects:
            self.client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        left = self.length if most is None else min(most, self.length)
        while left > 0:
            part = self.rest or self.client.recv(65536)
            if not part:
                return
            self.rest = part[left:]
            part = part[:left]
            left -= len(part)
            yield part

    def read_request(self, most=None):
        for _ in self.body(most):
            pass

    def forward(self, answer_most=None, change=None, change_request=None, edit=None, rate=None):
        """To the server and back; the connection to it lasts for one request."""
        head = re.sub(rb"(?im)^(expect|connection):[^\r\n]*\r\n", b"", self.head)
        head = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        offset = 0
        with socket.create_connection(("127.0.0.1", self.proxy.target), timeout=60) as upstream:
            upstream.sendall(head)
            for part in self.body():
                if change_request is not None and offset <= change_request < offset + len(part):
                    part = _changed(part, change_request - offset)
                upstream.sendall(part)
                offset += len(part)
            whole = b"".join(iter(lambda: upstream.recv(65536), b""))
        start = whole.index(b"\r\n\r\n") + 4
        if edit:
            whole = edit(whole[:start]) + whole[start:]
        if change is not None and len(whole) > start + change:
            whole = _changed(whole, start + change)
        if answer_most != -1:
            self._send(whole if answer_most is None else whole[:start + answer_most], rate)

    def _send(self, data, rate):
        if not rate:
            self.client.sendall(data)
            return
        part = max(1, rate // 10)
        for at in range(0, len(data), part):
            self.client.sendall(data[at:at + part])
            if self.proxy.stopping.wait(0.1):
                return


def _changed(data, at):
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1:]


class _Handler(socketserver.BaseRequestHandler):
    def handle(self):
        proxy = self.server.proxy
        data = b""
        while b"\r\n\r\n" not in data:
            part = self.request.recv(65536)
            if not part:
                return
            data += part
        end = data.index(b"\r\n\r\n") + 4
        exchange = Exchange(proxy, self.request, data[:end], data[end:])
        with contextlib.suppress(OSError):
            (proxy.take(exchange) or Exchange.forward)(exchange)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64


class FaultProxy:
    def __init__(self, target):
        self.target = target
        self.rules, self.seen, self.signers = [], [], []
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.listener = _Server(("127.0.0.1", 0), _Handler)
        self.listener.proxy = self
        self.endpoint = f"http://127.0.0.1:{self.listener.server_address[1]}"

    def on(self, method, path, act, *, times=1, skip=0):
        """The next `times` requests (None: all) of this method whose path has this pattern, after `skip` others."""
        with self.lock:
            self.rules.append([method, re.compile(path), act, times, skip])

    def clear(self):
        with self.lock:
            self.rules.clear()
            self.seen.clear()
            self.signers.clear()

    def take(self, exchange):
        with self.lock:
            self.seen.append((exchange.method, exchange.path))
            self.signers.append(exchange.signer)
            for rule in self.rules:
                method, path, act, times, skip = rule
                if times == 0 or method not in ("*", exchange.method) or not path.search(exchange.path):
                    continue
                if skip > 0:
                    rule[4] -= 1
                    continue
                if times is not None:
                    rule[3] -= 1
                return act
        return None

    def __enter__(self):
        threading.Thread(target=self.listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.listener.shutdown()
        self.listener.server_close()
