"""libhpkv below the protocol: servers that are silent, rude or somebody else, TLS with good and bad certificates, dead peers."""

import errno
import json
import select
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest

from lib.client_driver import Driver
from lib.pyserver import PyServer
from lib.rawserver import RawServer, answering, close_frame, drain, read_frame, read_head, upgraded


def connect_error(url, **options):
    options.setdefault("api_key", "sesame")
    options.setdefault("connect_timeout_ms", 5000)
    with Driver(url, **options) as client:
        outcome = client.connect()
        assert "sesame" not in outcome.get("text", "")
        return outcome


# --- servers that do not play by the rules ---


def test_a_server_that_never_answers_the_upgrade():
    with RawServer(drain) as server:
        began = time.monotonic()
        outcome = connect_error(f"http://127.0.0.1:{server.port}", connect_timeout_ms=500)
        assert outcome["err"] == -errno.ETIMEDOUT
        assert time.monotonic() - began >= 0.45


def test_a_server_that_never_begins_tls():
    with RawServer(drain) as server:
        assert connect_error(f"https://127.0.0.1:{server.port}", connect_timeout_ms=500)["err"] == -errno.ETIMEDOUT


def test_an_address_that_swallows_everything():
    """A listener whose queue is full: the connect itself is never answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        assert connect_error(f"http://127.0.0.1:{port}", connect_timeout_ms=500)["err"] == -errno.ETIMEDOUT
        for filler in fillers:
            filler.close()


def test_a_server_that_hangs_up_at_once():
    with RawServer(lambda connection: connection.recv(1)) as server:
        assert connect_error(f"http://127.0.0.1:{server.port}")["err"] == -errno.ECONNRESET


@pytest.mark.parametrize(
    "head, code",
    [
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/ws\r\nContent-Length: 0\r\n\r\n", 302),
        (b"HTTP/1.1 301 Moved\r\nLocation: ws://127.0.0.1:1/ws\r\nContent-Length: 0\r\n\r\n", 301),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>", 200),
    ],
)
def test_another_kind_of_server(head, code):
    with RawServer(answering(head)) as server:
        outcome = connect_error(f"http://127.0.0.1:{server.port}")
        assert (outcome["err"], outcome["code"]) == (-errno.EPROTO, code)
        assert server.accepted == 1


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"\0\xff" * 300 + b"\r\n\r\n",
    ],
)
def test_an_upgrade_that_makes_no_sense(head):
    with RawServer(answering(head)) as server:
        outcome = connect_error(f"http://127.0.0.1:{server.port}", connect_timeout_ms=2000)
        assert outcome["err"] in (-errno.EPROTO, -errno.ECONNRESET, -errno.ETIMEDOUT)


@pytest.mark.parametrize("line", [b"HTTP/1.1 102 Processing\r\n\r\n", b"X-Filler: " + b"v" * 1000 + b"\r\n"])
def test_a_head_without_end(line):
    def serve(connection):
        read_head(connection)
        if line.startswith(b"X"):
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n")
        for _ in range(1000):
            connection.sendall(line)
        drain(connection)

    with RawServer(serve) as server:
        assert connect_error(server.url)["err"] == -errno.EPROTO


@pytest.mark.parametrize("credential", ["api_key", "token"])
def test_a_credential_that_is_too_long_for_a_request(credential):
    """libwebsockets would cut the request off in the middle of it."""
    requests = []

    def serve(connection):
        requests.append(read_head(connection))
        connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        drain(connection)

    with RawServer(serve) as server:
        for size in (2000, 2100, 5000):
            outcome = connect_error(server.url, **{"api_key": None, credential: "t" * size})
            if size == 2000:
                assert outcome["code"] == 401
                assert requests.pop().split(b"\r\n")[0].endswith(b"t" * size + b" HTTP/1.1")
            else:
                assert outcome["err"] == -errno.EMSGSIZE
                assert "too long" in outcome["text"]
                assert not requests


@pytest.mark.parametrize("credential", ["api_key", "token"])
def test_a_server_that_tells_the_credential(credential):
    def refuse(connection):
        number = json.loads(read_frame(connection)[1])["messageId"]
        text = json.dumps({"messageId": number, "code": 400, "error": "who is open-sesame?"}).encode()
        connection.sendall(bytes([0x81, len(text)]) + text)
        close_frame(4001, b"open-sesame is not welcome")(connection)

    with RawServer(upgraded(refuse)) as server:
        with Driver(server.url, **{credential: "open-sesame"}, max_reconnect_attempts=0) as client:
            assert "err" not in client.connect()
            assert client.request("get", "a")["code"] == 400
            gone = client.wait("disconnected")
            assert (gone["err"], gone["code"]) == (-errno.ECONNRESET, 4001)
            assert "open-sesame" not in json.dumps(client.events)


def test_a_dead_peer_is_found():
    """Nothing comes any more, no answer to a ping either."""
    options = {"ping_after_s": 1, "dead_after_s": 2}
    with RawServer(upgraded(drain)) as server, Driver(server.url, api_key="k", **options) as client:
        assert "err" not in client.connect()
        number = client.start("get", "a", 60000)
        assert client.reply(number)["err"] == -errno.ECONNRESET
        assert client.wait("disconnected")["err"] == -errno.ECONNRESET


def test_a_close_that_is_never_answered():
    with RawServer(upgraded(drain)) as server:
        with Driver(f"http://127.0.0.1:{server.port}", api_key="k", connect_timeout_ms=500) as client:
            assert "err" not in client.connect()
            client.do("disconnect")
            client.wait("disconnect")
            assert client.state() == 0
            assert "err" not in client.connect()


PARTS = [
    b"\x81",  # half a head
    b"\x81\x7f\0\0\0\0\0\1\0\0" + b"{" * 1000,  # a frame of 64 KiB, its beginning
    b"\x01\x05hello",  # the first of several fragments
    b"\x89\x05he",  # half a ping
]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("end", ["disconnect", "free", "hang up"])
def test_the_end_in_the_middle_of_a_message(part, end):
    sent = threading.Event()
    hang_up = threading.Event()

    def then(connection):
        connection.sendall(part)
        sent.set()
        if end == "hang up":
            hang_up.wait(60)
        else:
            drain(connection)

    with RawServer(upgraded(then)) as server:
        with Driver(f"http://127.0.0.1:{server.port}", api_key="k", connect_timeout_ms=500) as client:
            assert "err" not in client.connect()
            assert sent.wait(60)
            number = client.start("get", "a")
            client.state()  # the request was started
            if end == "hang up":
                hang_up.set()
                assert client.reply(number)["err"] == -errno.ECONNRESET
                assert client.wait("disconnected")["err"] == -errno.ECONNRESET
                return
            client.do(end)
            assert client.reply(number)["err"] == -errno.ECANCELED
            client.wait("freed" if end == "free" else "disconnect")


@pytest.mark.parametrize("size", [500, 30000, 65535])
def test_a_mebibyte_in_fragments_and_pings_between_them(size):
    pong = threading.Event()

    def then(connection):
        connection.recv(65536)  # the request
        connection.sendall(b'\x01\x10{"messageId":1, \x89\x02hi\x00\x0b"code":200,')
        head = connection.recv(65536)
        if head[:1] == b"\x8a":
            pong.set()
        text = b'"value":"' + b"x" * 2**20 + b'"}'
        text += b" " * (-len(text) % size)  # so that every piece has a length of two bytes
        for byte in range(0, len(text), size):
            piece = text[byte : byte + size]
            last = byte + size >= len(text)
            connection.sendall((b"\x80" if last else b"\x00") + b"\x7e" + len(piece).to_bytes(2, "big") + piece)
        drain(connection)

    with RawServer(upgraded(then)) as server, Driver(f"http://127.0.0.1:{server.port}", api_key="k") as client:
        assert "err" not in client.connect()
        assert client.request("get", "a")["value"] == "x" * 2**20
        assert pong.is_set()


def test_frames_that_break_the_protocol():
    for frame in (b"\x83\x00", b"\xf1\x00", b"\x80\x01x", b"\x81\x81\0\0\0\0x", b"\x81\x7f" + b"\xff" * 8):

        def then(connection, frame=frame):
            connection.recv(65536)
            connection.sendall(frame)
            drain(connection)

        with RawServer(upgraded(then)) as server:
            with Driver(f"http://127.0.0.1:{server.port}", api_key="k", operation_timeout_ms=1000) as client:
                assert "err" not in client.connect()
                assert client.request("get", "a")["err"] in (-errno.ECONNRESET, -errno.EPROTO, -errno.ETIMEDOUT)


def test_a_live_but_idle_connection_stays():
    options = {"ping_after_s": 1, "dead_after_s": 4}
    with PyServer() as server, Driver(server.url, api_key=server.key, **options) as client:
        assert "err" not in client.connect()
        time.sleep(7)  # longer than the time after which a silent peer counts as dead
        assert client.count("disconnected") == 0
        assert "err" not in client.request("set", "a", "1")


# --- Unix sockets ---


def test_unix_sockets(tmp_path):
    """Also one whose path is longer than the 107 bytes that the kernel takes."""
    folder = tmp_path / ("long" * 30) / ("longer" * 20)
    folder.mkdir(parents=True)
    short = tmp_path / "s"
    short.symlink_to(folder)
    with PyServer() as behind:

        def forward(connection):
            with socket.create_connection(("127.0.0.1", behind.port)) as upstream:

                def back():
                    try:
                        while data := upstream.recv(65536):
                            connection.sendall(data)
                        connection.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass

                thread = threading.Thread(target=back)
                thread.start()
                try:
                    while data := connection.recv(65536):
                        upstream.sendall(data)
                finally:
                    upstream.shutdown(socket.SHUT_RDWR)
                    thread.join()

        with RawServer(forward, family=socket.AF_UNIX, address=str(short / "socket")):
            assert len(str(folder / "socket")) > 200
            for path in (short / "socket", folder / "socket"):
                with Driver(f"unix:{path}", api_key=behind.key) as client:
                    assert "err" not in client.connect()
                    assert "err" not in client.request("set", "a", "1")
                    client.do("token", [], None)
                    assert "token" in client.wait("token")


def test_no_such_socket(tmp_path):
    assert connect_error(f"unix:{tmp_path}/nothing")["err"] in (-errno.ECONNREFUSED, -errno.ENOENT)


# --- TLS ---


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority and certificates of it, made with openssl: a folder of NAME.pem and NAME.key."""
    assert shutil.which("openssl"), "the test needs the Debian package openssl"
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, cwd=folder, capture_output=True)

    def key(name):
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", f"{name}.key")

    def authority(name):
        key(name)
        openssl("req", "-x509", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-days", "30", "-out", f"{name}.pem",
                "-addext", "basicConstraints=critical,CA:TRUE")  # fmt: skip

    def leaf(name, names, issuer="authority", begin=None, end=None):
        key(name)
        openssl("req", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-out", f"{name}.csr")
        (folder / f"{name}.ext").write_text(f"subjectAltName={names}\nbasicConstraints=CA:FALSE\n")
        if begin is None:
            openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", "-CAcreateserial",
                    "-days", "10", "-extfile", f"{name}.ext", "-out", f"{name}.pem")  # fmt: skip
            return
        (folder / "index.txt").write_text("")
        (folder / "ca.conf").write_text(
            "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\n"
            "policy=p\nunique_subject=no\n[p]\ncommonName=supplied\n"
        )
        openssl("ca", "-batch", "-config", "ca.conf", "-in", f"{name}.csr", "-cert", f"{issuer}.pem", "-keyfile", f"{issuer}.key",
                "-startdate", begin, "-enddate", end, "-extfile", f"{name}.ext", "-out", f"{name}.pem", "-notext")  # fmt: skip

    authority("authority")
    authority("stranger")
    leaf("good", "DNS:localhost,IP:127.0.0.1,IP:::1")
    leaf("elsewhere", "DNS:elsewhere.example,IP:127.0.0.9")
    leaf("expired", "DNS:localhost,IP:127.0.0.1", begin="20200101000000Z", end="20210101000000Z")
    leaf("foreign", "DNS:localhost,IP:127.0.0.1", issuer="stranger")
    key("selfsigned")
    openssl("req", "-x509", "-new", "-key", "selfsigned.key", "-subj", "/CN=localhost", "-days", "30", "-out", "selfsigned.pem",
            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")  # fmt: skip
    return folder


@pytest.fixture
def tls(certificates):
    """A function: tls(NAME) answers the port of a TLS server with that certificate in front of a working server, and that server."""
    opened = []

    def start(name):
        behind = PyServer()
        opened.append(behind)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")

        def forward(connection):
            with socket.create_connection(("127.0.0.1", behind.port)) as upstream:
                connection.setblocking(True)
                pump(connection, upstream)

        server = RawServer(forward, context)
        opened.append(server)
        return server.port, behind

    yield start
    for item in reversed(opened):
        item.close()


def pump(secure, plain):
    """Both directions on one thread, since an SSL socket is not for two."""
    while True:
        ready = [secure] if secure.pending() else select.select([secure, plain], [], [])[0]
        for source in ready:
            data = source.recv(65536)
            if not data:
                return
            (plain if source is secure else secure).sendall(data)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_tls_with_an_authority_of_ones_own(tls, certificates, host):
    port, behind = tls("good")
    ca = str(certificates / "authority.pem")
    with Driver(f"https://{host}:{port}", api_key=behind.key, ca_file=ca) as client:
        outcome = client.connect()
        assert "err" not in outcome, outcome
        assert "err" not in client.request("set", "a", "x" * 3000)
        assert client.request("get", "a")["value"] == "x" * 3000
        numbers = [client.start("get", "a") for _ in range(200)]
        assert all(client.reply(number)["value"] == "x" * 3000 for number in numbers)
        client.do("token", ["*"], None)
        token = client.wait("token")
        assert "token" in token, token
        client.do("disconnect")
        client.wait("disconnect")


@pytest.mark.parametrize("name", ["expired", "elsewhere", "foreign", "selfsigned"])
@pytest.mark.parametrize("insecure", [False, True])
def test_bad_certificates_are_refused(tls, certificates, name, insecure):
    """Also with `insecure`, which only allows to do without TLS."""
    port, behind = tls(name)
    ca = str(certificates / "authority.pem")
    with Driver(f"https://localhost:{port}", api_key=behind.key, ca_file=ca, insecure=insecure) as client:
        outcome = client.connect()
        assert outcome["err"] == -errno.EPROTO, outcome
        assert "certificate" in outcome["text"]
        client.do("token", ["*"], None)
        assert client.wait("token")["err"] == -errno.EPROTO
    assert behind.connections() == 0


def test_an_unknown_authority_is_refused(tls):
    port, behind = tls("good")
    with Driver(f"https://localhost:{port}", api_key=behind.key) as client:
        assert client.connect()["err"] == -errno.EPROTO


def test_a_wrong_address_in_the_certificate(tls, certificates):
    port, behind = tls("elsewhere")
    with Driver(f"https://127.0.0.1:{port}", api_key=behind.key, ca_file=str(certificates / "authority.pem")) as client:
        assert client.connect()["err"] == -errno.EPROTO


def test_no_such_file_of_authorities(tmp_path):
    for path in (tmp_path / "missing.pem", tmp_path):
        outcome = connect_error("https://127.0.0.1:1", ca_file=str(path))
        assert outcome["err"] in (-errno.ENOENT, -errno.EINVAL)
        assert str(path) in outcome["text"]


def test_a_file_of_authorities_that_holds_nonsense(tls, tmp_path):
    port, behind = tls("good")
    (tmp_path / "ca.pem").write_text("no certificate\n")
    with Driver(f"https://localhost:{port}", api_key=behind.key, ca_file=str(tmp_path / "ca.pem")) as client:
        assert "err" in client.connect()
    assert behind.connections() == 0


def test_plain_text_to_a_tls_port(tls):
    port, behind = tls("good")
    with Driver(f"http://127.0.0.1:{port}", api_key=behind.key) as client:
        assert "err" in client.connect()


def test_tls_to_a_plain_port():
    def serve(connection):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        drain(connection)

    with RawServer(serve) as server:
        assert connect_error(f"https://127.0.0.1:{server.port}")["err"] == -errno.EPROTO
