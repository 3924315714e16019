"""A throwaway MongoDB for benchmarks: a replica set of one member, with a state to go back to."""
import os, shutil, signal, socket, subprocess, sys, tempfile, time


def mongod():
    """The program of MongoDB 6.0, installed where need be; none where it cannot be had."""
    if os.environ.get("MAINT_TEST_MONGOD_60"):
        return os.environ["MAINT_TEST_MONGOD_60"]
    installer = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mongo-servers")
    done = subprocess.run([installer], stdout=subprocess.PIPE, text=True)
    return f"{done.stdout.strip()}/6.0/bin/mongod" if done.returncode == 0 else None


def with_driver():
    """Goes on in a Python that has pymongo, which is installed once, in a folder of its own."""
    try:
        import pymongo
        return
    except ImportError:
        pass
    peers = f"/var/tmp/maint-peers-{os.getuid()}/mongo"
    if sys.prefix == peers:
        raise ImportError(f"pymongo is not in {peers}")
    subprocess.run([sys.executable, "-m", "venv", peers], check=True)
    subprocess.run([f"{peers}/bin/pip", "install", "--quiet", "--disable-pip-version-check", "pymongo==4.*"], check=True)
    os.execv(f"{peers}/bin/python", [f"{peers}/bin/python", *sys.argv])


class Mongod:
    def __init__(self, program):
        self.program = program

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="maint-bench-mongo-")
        os.mkdir(f"{self.folder}/data")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = None
        try:
            self.start()
            # By name, so that the state kept can be started anew.
            self.client.admin.command("replSetInitiate", {"_id": "rs0", "members": [{"_id": 0, "host": f"127.0.0.1:{self.port}"}]})
            self.elected()
        except BaseException:
            self.__exit__()
            raise
        self.version = self.client.server_info()["version"]
        return self

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self):
        return f"mongodb://127.0.0.1:{self.port}/work?replicaSet=rs0"

    def start(self):
        import pymongo
        self.process = subprocess.Popen(
            [self.program, "--bind_ip", "127.0.0.1", "--nounixsocket", "--port", str(self.port), "--replSet", "rs0",
             "--dbpath", f"{self.folder}/data", "--wiredTigerCacheSizeGB", "1", "--oplogSize", "1024",
             "--setParameter", "diagnosticDataCollectionEnabled=false", "--logpath", f"{self.folder}/log", "--logappend"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                assert self.process.poll() is None and time.monotonic() < until, f"waited in vain until mongod listens; see {self.folder}/log"
                time.sleep(0.05)
        self.client = pymongo.MongoClient("127.0.0.1", self.port, directConnection=True)

    def elected(self):
        until = time.monotonic() + 60
        while not self.client.admin.command("hello")["isWritablePrimary"]:
            assert time.monotonic() < until, "waited in vain for a primary"
            time.sleep(0.05)

    def stop(self):
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def keep(self):
        """This is the state that `anew` goes back to."""
        self.stop()
        shutil.copytree(f"{self.folder}/data", f"{self.folder}/kept")
        self.start()
        self.elected()

    def anew(self):
        """Everything as it was kept, file by file."""
        self.stop()
        shutil.rmtree(f"{self.folder}/data")
        shutil.copytree(f"{self.folder}/kept", f"{self.folder}/data")
        self.start()
        self.elected()
