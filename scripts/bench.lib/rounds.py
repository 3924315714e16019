"""Two or more ways to do the same work, in turns, and what each took."""
import glob, json, os, statistics, subprocess, time


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


def table(title, took, peer):
    """Medians, and the ratio to the peer's."""
    base = statistics.median(took[peer])
    print(title)
    for name, seconds in took.items():
        middle = statistics.median(seconds)
        print(f"  {name:34} {middle:8.2f} s  ({min(seconds):.2f} to {max(seconds):.2f})  {middle / base:6.2f} x")
    print(flush=True)


class Maint:
    """The program with a configuration of its own."""

    def __init__(self, program, folder, url, extra=""):
        self.program, self.folder = program, folder
        os.makedirs(f"{folder}/tasks", exist_ok=True)
        with open(f"{folder}/schedules.yaml", "w") as file:
            file.write(f'history: "sqlite:{folder}/maint.db"\n'
                       f'targets: {{ app: {{ engine: postgres, url: "{url}" }} }}\n{extra}')

    def task(self, name, text):
        with open(f"{self.folder}/tasks/{name}.yaml", "w") as file:
            file.write(text)

    def forget(self):
        """As if nothing had ever run: no sizes are known, nothing counts as done."""
        for name in glob.glob(f"{self.folder}/maint.db*"):
            os.remove(name)

    def run(self, task, steps=None):
        """Runs a task; with `steps`, so many must have succeeded."""
        out = subprocess.run([self.program, "--config", f"{self.folder}/schedules.yaml", "run", task, "--now",
                              "--output", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        document = json.loads(out.stdout)
        assert "runs" in document, document
        run = document["runs"][0]
        assert run["status"] == "succeeded", (run["status"], run["error"], out.stderr[-2000:])
        done = sum(step["status"] == "succeeded" for step in run["steps"])
        assert steps is None or done == steps, f"{done} steps instead of {steps}"
        return run
