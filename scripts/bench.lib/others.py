"""What an application feels meanwhile."""
import glob, os, re, signal, subprocess, time


class Application:
    """pgbench at a tenth of the rate that it reaches alone; `script` is a file of its own transactions."""

    def __init__(self, url, folder, script=None):
        self.url, self.prefix = url, f"{folder}/log"
        self.script = ["-f", script] if script else []
        alone = subprocess.run(["pgbench", "-n", "-c", "2", *self.script, "-T", "10", url], check=True,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        self.rate = max(int(float(re.search(r"tps = ([\d.]+)", alone).group(1)) / 10), 10)

    def beside(self, work):
        """Milliseconds of the transactions that were due while the work was done, and its seconds."""
        for path in glob.glob(f"{self.prefix}*"):
            os.remove(path)
        bench = subprocess.Popen(["pgbench", "-n", "-c", "2", *self.script, "-R", str(self.rate), "-T", "3600", "-l",
                                  "--log-prefix", self.prefix, self.url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)
        began = time.time()
        work()
        ended = time.time()
        time.sleep(0.5)
        bench.send_signal(signal.SIGALRM)  # its time is up: it writes its log to the end
        bench.wait()
        waits = []
        for path in glob.glob(f"{self.prefix}*"):
            for line in open(path):
                words = line.split()
                if len(words) >= 6 and words[2].isdigit():
                    at, took = int(words[4]) + int(words[5]) / 1e6, int(words[2]) / 1e6
                    if began <= at and at - took <= ended:
                        waits.append(took * 1000)
        return waits, ended - began


def part(waits, share):
    """What so large a share of the transactions took at most."""
    return f"{sorted(waits)[min(int(len(waits) * share), len(waits) - 1)]:.1f} ms" if waits else "none"
