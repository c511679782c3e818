#!/usr/bin/python3 -u
"""Stands in for servers that no registry here has: gitea, forgejo, nbxplorer, btcpayserver and lightningd, by the
name it is called. Each listens where the real one does, takes the same variables and files, keeps something on its
volumes, and is well only while whatever it needs answers it, with the passwords that it was given."""

import asyncio, base64, json, os, signal, socket, sqlite3, sys, urllib.parse, urllib.request
from pathlib import Path

import psycopg2

# The longest address or field that BTCPay Server takes is half of it.
HEAD = 1 << 20


class Forge:
    """Gitea, and Forgejo: the same with another word before its variables."""

    health = "/api/healthz"

    def __init__(self, word):
        self.word = word
        self.port = int(self.setting("server__HTTP_PORT", "3000"))

    def setting(self, name, otherwise=""):
        file = os.environ.get(f"{self.word}__{name}__FILE")
        return Path(file).read_text() if file else os.environ.get(f"{self.word}__{name}", otherwise)

    def check(self):
        assert self.setting("security__SECRET_KEY"), "no SECRET_KEY"
        if self.setting("database__DB_TYPE") == "postgres":
            host, port = self.setting("database__HOST").split(":")
            name, user = self.setting("database__NAME"), self.setting("database__USER")
            database = psycopg2.connect(
                host=host, port=port, dbname=name, user=user, password=self.setting("database__PASSWD"))
        else:
            path = Path(self.setting("database__PATH"))
            path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(path)
        database.cursor().execute("CREATE TABLE IF NOT EXISTS repository (id INTEGER PRIMARY KEY)")
        database.commit()
        database.close()

    def page(self, fields):
        return f"{self.setting('DEFAULT__APP_NAME')} at {self.setting('server__ROOT_URL')}"


class Nbxplorer:
    """What follows the chain for BTCPay Server."""

    port, health = 32838, "/health"

    def check(self):
        database(os.environ["NBXPLORER_POSTGRES"])
        Path(os.environ["NBXPLORER_DATADIR"], "settings.config").touch()
        host, port = os.environ["NBXPLORER_BTCNODEENDPOINT"].split(":")
        socket.create_connection((host, int(port)), 3).close()
        user, password = os.environ["NBXPLORER_BTCRPCUSER"], os.environ["NBXPLORER_BTCRPCPASSWORD"]
        self.chain = node(os.environ["NBXPLORER_BTCRPCURL"], user, password)

    def page(self, fields):
        return json.dumps({"chain": self.chain})


class Btcpay:
    """BTCPay Server: all that it needs has to answer."""

    port = 49392

    def __init__(self):
        self.root = os.environ.get("BTCPAY_ROOTPATH", "/").rstrip("/")
        self.health = self.root + "/api/v1/health"

    def check(self):
        database(os.environ["BTCPAY_POSTGRES"])
        Path(os.environ["BTCPAY_DATADIR"], "settings.config").touch()
        assert Path("/root/.nbxplorer/settings.config").exists(), "no folder of NBXplorer"
        with urllib.request.urlopen(os.environ["BTCPAY_BTCEXPLORERURL"], timeout=5) as answer:
            self.chain = json.load(answer)["chain"]
        words = dict(word.split("=", 1) for word in os.environ["BTCPAY_BTCLIGHTNING"].split(";"))
        self.node = getinfo(words["server"].replace("unix:/", "", 1))["alias"]

    def page(self, fields):
        # It believes who asks it how visitors came.
        place = f"{fields.get('x-forwarded-proto')}://{fields.get('host')}{self.root}/"
        return f"BTCPay Server at {place} on {self.chain} with {self.node}"


class Lightning:
    """Core Lightning: a socket that says who it is, and the files that its archive has."""

    port, health = 9735, "/"

    def __init__(self, arguments):
        (conf,) = [word.split("=", 1)[1] for word in arguments if word.startswith("--conf=")]
        lines = Path(conf).read_text().split("\n")
        self.conf = dict(line.split("=", 1) for line in lines if "=" in line)
        self.network = os.environ.get("LIGHTNINGD_NETWORK", "bitcoin")
        self.folder = Path("/root/.lightning", self.network)

    def check(self):
        conf = {name.removeprefix("bitcoin-rpc"): value for name, value in self.conf.items()}
        chain = node(f"http://{conf['connect']}:{conf['port']}/", conf["user"], conf["password"])
        assert chain == {"bitcoin": "main"}.get(self.network, self.network), chain
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("hsm_secret", "emergency.recover"):
            if not (self.folder / name).exists():
                (self.folder / name).write_bytes(os.urandom(32))

    def page(self, fields):
        return "nobody speaks HTTP here"

    async def answer(self, reader, writer):
        asked = json.loads(await reader.readuntil(b"\n"))
        result = {"alias": self.conf.get("alias", "lightning"), "network": self.network, "version": "v25.09.3"}
        writer.write(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode() + b"\n\n")
        writer.close()

    async def listen(self):
        path = self.folder / "lightning-rpc"
        path.unlink(missing_ok=True)
        await asyncio.start_unix_server(self.answer, path)


def node(url, user, password):
    """The chain of a Bitcoin node, asked for by RPC."""
    words = base64.b64encode(f"{user}:{password}".encode()).decode()
    body = json.dumps({"method": "getblockchaininfo", "params": [], "id": 1}).encode()
    ask = urllib.request.Request(url, body, {"Authorization": f"Basic {words}"})
    with urllib.request.urlopen(ask, timeout=5) as answer:
        return json.load(answer)["result"]["chain"]


def database(words):
    """A PostgreSQL database by the words that .NET has for it; it is made where it is missing."""
    words = dict(word.split("=", 1) for word in words.split(";"))
    login = dict(host=words["Host"], port=words["Port"], user=words["Username"], password=words["Password"])
    first = psycopg2.connect(dbname="postgres", **login)
    first.autocommit = True
    cursor = first.cursor()
    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [words["Database"]])
    if not cursor.fetchone():
        cursor.execute(f'CREATE DATABASE "{words["Database"]}"')
    first.close()
    psycopg2.connect(dbname=words["Database"], **login).close()


def getinfo(path):
    """What a Lightning node says of itself."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(5)
        line.connect(path)
        line.sendall(b'{"jsonrpc":"2.0","id":1,"method":"getinfo","params":{}}\n')
        return json.loads(line.makefile().readline())["result"]


def answer_to(server, target, fields):
    """A status and a text."""
    try:
        if urllib.parse.urlsplit(target).path != server.health:
            return 200, server.page(fields)
        server.check()
        return 200, "{}"
    except Exception as error:
        print(repr(error), file=sys.stderr)
        return 503, repr(error)


async def serve(server):
    async def answer(reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            target = head[0].split(" ")[1]
            fields = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
            status, text = await asyncio.to_thread(answer_to, server, target, fields)
            longest = max(map(len, head))
            said = f"Content-Length: {len(text.encode())}\r\nX-Longest-Line: {longest}\r\nConnection: close\r\n"
            writer.write(f"HTTP/1.1 {status} .\r\n{said}\r\n{text}".encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    # As the real ones: nothing is listened on before what it needs is there.
    for left in range(120, -1, -1):
        try:
            server.check()
            break
        except Exception as error:
            if left == 0:
                raise
            print(repr(error), file=sys.stderr)
            await asyncio.sleep(1)
    if isinstance(server, Lightning):
        await server.listen()
    async with await asyncio.start_server(answer, "0.0.0.0", server.port, limit=HEAD) as listening:
        await listening.serve_forever()


def main(name, *arguments):
    # The first process of a container gets no signal that it does not ask for.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if name == "lightning-cli":
        network = next(word for word in arguments if word.startswith("--network=")).split("=")[1]
        print(json.dumps(getinfo(f"/root/.lightning/{network}/lightning-rpc")))
        return
    kinds = {
        "gitea": lambda: Forge("GITEA"),
        "forgejo": lambda: Forge("FORGEJO"),
        "nbxplorer": Nbxplorer,
        "btcpayserver": Btcpay,
        "lightningd": lambda: Lightning(arguments),
    }
    asyncio.run(serve(kinds[name]()))


main(Path(sys.argv[0]).name, *sys.argv[1:])
