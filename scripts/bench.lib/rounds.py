"""Two or more ways to do the same work, in turns, and what each took."""
import glob, json, os, statistics, subprocess, sys, threading, time


def timed(work):
    began = time.monotonic()
    work()
    return time.monotonic() - began


def in_turns(ways, prepare, rounds):
    """Seconds of each way, all rounds; who goes first changes from round to round."""
    took = {name: [] for name in ways}
    order = list(ways)
    for n in range(rounds):
        for name in order[n % len(order):] + order[:n % len(order)]:
            prepare()
            took[name].append(timed(ways[name]))
    return took


def ratio(seconds, base):
    """The median of the ratios of all rounds: what else the machine did in a round, it did to both."""
    return statistics.median(mine / other for mine, other in zip(seconds, base))


def table(title, took, peer, goal=None, note=None):
    """Medians, and the ratio to the peer's; also into the file that MAINT_BENCH_RESULTS names."""
    print(title)
    rows = []
    for name, seconds in took.items():
        middle, times = statistics.median(seconds), ratio(seconds, took[peer])
        rows.append({"name": name, "median": middle, "least": min(seconds), "most": max(seconds), "ratio": times})
        print(f"  {name:34} {middle:8.2f} s  ({min(seconds):.2f} to {max(seconds):.2f})  {times:6.2f} x")
    if goal:
        print(f"  goal: {goal}")
    if note:
        print(f"  {note}")
    print(flush=True)
    record({"title": title, "peer": peer, "rounds": len(took[peer]), "rows": rows, "goal": goal, "note": note})


def lines(title, head, rows, goal=None, note=None):
    """A table of anything but seconds; `head` names its columns."""
    print(title)
    wide = [max(len(str(row[n])) for row in [head, *rows]) for n in range(len(head))]
    for row in [head, *rows]:
        print("  " + "  ".join(str(cell).ljust(wide[n]) for n, cell in enumerate(row)).rstrip())
    if goal:
        print(f"  goal: {goal}")
    if note:
        print(f"  {note}")
    print(flush=True)
    record({"title": title, "head": head, "table": rows, "goal": goal, "note": note})


def record(result):
    path = os.environ.get("MAINT_BENCH_RESULTS")
    if path:
        with open(path, "a") as file:
            file.write(json.dumps({"bench": os.path.basename(sys.argv[0]), **result}) + "\n")


class Peak:
    """The most memory that a maint started meanwhile has had; pages of the program file do not count."""

    def __init__(self):
        self.megabytes = 0.0

    def __enter__(self):
        self.ended = threading.Event()
        self.watching = threading.Thread(target=self.watch)
        self.watching.start()

    def __exit__(self, *_):
        self.ended.set()
        self.watching.join()

    def watch(self):
        while not self.ended.wait(0.02):
            for children in glob.glob(f"/proc/{os.getpid()}/task/*/children"):
                try:
                    for child in open(children).read().split():
                        text = open(f"/proc/{child}/status").read()
                        if text.startswith("Name:\tmaint"):
                            self.megabytes = max(self.megabytes, int(text.split("RssAnon:")[1].split()[0]) / 1024)
                except (OSError, IndexError):
                    pass


class Maint:
    """The program with a configuration of its own."""

    def __init__(self, program, folder, url, extra="", engine="postgres"):
        self.program, self.folder = program, folder
        os.makedirs(f"{folder}/tasks", exist_ok=True)
        with open(f"{folder}/schedules.yaml", "w") as file:
            file.write(f'history: "sqlite:{folder}/maint.db"\n'
                       f'targets: {{ app: {{ engine: {engine}, url: "{url}" }} }}\n{extra}')

    def task(self, name, text):
        with open(f"{self.folder}/tasks/{name}.yaml", "w") as file:
            file.write(text)

    def forget(self):
        """As if nothing had ever run: no sizes are known, nothing counts as done."""
        for name in glob.glob(f"{self.folder}/maint.db*"):
            os.remove(name)

    def run(self, task, steps=None, rows=None):
        """Runs a task; with `steps`, so many must have succeeded, with `rows`, so many have gone."""
        out = subprocess.run([self.program, "--config", f"{self.folder}/schedules.yaml", "run", task, "--now",
                              "--output", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        document = json.loads(out.stdout)
        assert "runs" in document, document
        run = document["runs"][0]
        assert run["status"] == "succeeded", (run["status"], run["error"], out.stderr[-2000:])
        done = sum(step["status"] == "succeeded" for step in run["steps"])
        assert steps is None or done == steps, f"{done} steps instead of {steps}"
        assert rows is None or run["rows"] == rows, f"{run['rows']} rows instead of {rows}"
        return run
