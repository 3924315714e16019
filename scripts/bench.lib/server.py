"""A throwaway PostgreSQL for benchmarks."""
import os, shutil, socket, subprocess, tempfile

# Debian has this user as soon as a server is installed; a server refuses to run as root.
USERS = ["postgres", "nobody"]


def binary():
    """The maint to measure."""
    if os.environ.get("MAINT_BIN"):
        return os.path.abspath(os.environ["MAINT_BIN"])
    subprocess.run(["cargo", "build", "--quiet", "--profile", "demo"], check=True)
    return os.path.abspath("target/demo/maint")


class Server:
    """`bin` is the folder of its programs, where it is not one of those of the tests; `settings` are beside ours."""

    def __init__(self, major=17, bin=None, **settings):
        self.bin = bin or os.environ[f"MAINT_TEST_PG_BIN_{major}"]
        self.settings = settings

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="maint-bench-")
        self.who = []
        if os.getuid() == 0:
            user = next(u for u in USERS if subprocess.run(["id", u], capture_output=True).returncode == 0)
            shutil.chown(self.folder, user)
            self.who = ["setpriv", f"--reuid={user}", "--clear-groups", "--"]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        data = f"{self.folder}/data"
        self.call("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        settings = (f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c shared_buffers=512MB"
                    " -c max_wal_size=8GB -c autovacuum=off")
        settings += "".join(f" -c {name}={value}" for name, value in self.settings.items())
        self.options = settings
        self.start()
        self.port = port
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable"
        self.version = self.sql("SHOW server_version")
        return self

    def __exit__(self, *_):
        self.call("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self):
        self.call("pg_ctl", "-D", f"{self.folder}/data", "-l", f"{self.folder}/log", "-o", self.options, "-w", "start")

    def kill(self):
        """Ends it as a power cut would, but for what the system had not written."""
        self.call("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "-w", "stop")

    def call(self, program, *arguments):
        subprocess.run([*self.who, f"{self.bin}/{program}", *arguments], check=True, stdout=subprocess.DEVNULL,
                       cwd="/")

    def at(self, database):
        """How to reach another database of the server."""
        return self.url.replace("/postgres?", f"/{database}?")

    def sql(self, text, database="postgres"):
        done = subprocess.run(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", self.at(database)], input=text, text=True,
                              check=True, stdout=subprocess.PIPE)
        return done.stdout.strip()

    def anew(self, database, template, *reads):
        """A database as its template is, file by file; `reads` bring it into memory."""
        self.sql("SET client_min_messages = warning;" f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        # 14 knows no other way, and no word for it.
        files = "" if int(self.sql("SHOW server_version_num")) < 150000 else "STRATEGY file_copy"
        self.sql(f"CREATE DATABASE {database} TEMPLATE {template} {files}")
        for read in reads:
            self.sql(f"SET max_parallel_workers_per_gather = 0; {read}", database)
        self.sql("CHECKPOINT")
