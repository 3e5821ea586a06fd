"""libcephfs at work, behind a pipe: one JSON command a line on stdin, one JSON answer a line on stdout.

Run by the python3 of the Ceph release under test, with its python3-cephfs and the standard library only. A command is
``{"op": NAME, ...}`` with the arguments of that method of `Theirs`; the answer has ``seconds`` and ``cpu``, the wall
and processor time of the work alone. `ours` understands the same commands.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import threading
import time
from contextlib import contextmanager

import cephfs

AUTH_EXCL = 8
"""``CEPH_CAP_AUTH_EXCL`` (ceph: src/include/ceph_fs.h)."""


def processor_time():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def resident():
    """Bytes of memory held right now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@contextmanager
def measured(answer):
    cpu, began = processor_time(), time.perf_counter()
    yield
    answer["seconds"] = time.perf_counter() - began
    answer["cpu"] = processor_time() - cpu


class Theirs:
    """The works; mounts stand in ``mounts``, and most work uses the first."""

    def __init__(self, conf):
        self.conf = conf
        self.mounts = []

    def connect(self, path=None, clients=1, options=None):
        """Mount anew; with ``path`` the time counts until its stat is there."""
        answer = {}
        with measured(answer):
            for _ in range(clients):
                mount = cephfs.LibCephFS(conffile=self.conf, auth_id="admin", conf=options or {})
                mount.mount()
                self.mounts.append(mount)
            if path is not None:
                self.mounts[-1].stat(path)
        answer["ids"] = [mount.get_instance_id() for mount in self.mounts]
        return answer

    def leave(self):
        answer = {}
        with measured(answer):
            for mount in self.mounts:
                mount.shutdown()
            self.mounts.clear()
        return answer

    def make(self, folders):
        for folder in folders:
            self.mounts[0].mkdirs(folder, 0o755)
        return {}

    def create(self, folder, count, workers):
        """Create and close ``count`` files."""
        mount, answer = self.mounts[0], {}

        def one(number):
            mount.close(mount.open(f"{folder}/{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))

        with measured(answer):
            spread(one, count, workers)
        return answer

    def chmod(self, folder, count, mode, workers):
        """Change the mode of each file, then have all of it safe; ``exclusive``: on how many Ax is held before."""
        mount, answer = self.mounts[0], {}
        held = [mount.debug_get_file_caps(f"{folder}/{number}") for number in range(count)]
        answer["exclusive"] = sum(bool(bits & AUTH_EXCL) for bits in held)
        with measured(answer):
            spread(lambda number: mount.chmod(f"{folder}/{number}", mode), count, workers)
            mount.sync_fs()
        return answer

    def alternate(self, path, rounds):
        """The first client changes the mode of a file, the second sees it."""
        one, other = self.mounts[:2]
        one.close(one.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
        answer, wrong = {}, 0
        with measured(answer):
            for number in range(rounds):
                mode = 0o600 + number % 64
                one.chmod(path, mode)
                wrong += other.stat(path).st_mode & 0o7777 != mode
        return {**answer, "wrong": wrong}

    def stat(self, folders, each, count, seed, workers):
        """The stat of ``count`` files among ``each`` in every folder, in random order."""
        mount, answer = self.mounts[0], {}
        chosen = choose(folders, each, count, seed)
        with measured(answer):
            spread(lambda number: mount.stat(chosen[number]), count, workers)
        return answer

    def list(self, folders):
        """Every entry of the folders with its stat."""
        mount, answer, entries, total = self.mounts[0], {}, 0, 0
        with measured(answer):
            for folder in folders:
                directory = mount.opendir(folder)
                while (entry := mount.readdir(directory)) is not None:
                    if entry.d_name not in (b".", b".."):
                        total += mount.stat(b"%s/%s" % (folder.encode(), entry.d_name)).st_nlink
                        entries += 1
                mount.closedir(directory)
        return {**answer, "entries": entries, "links": total, "memory": resident()}

    def drop(self, path):
        """Let go of what is cached: libcephfs does it where its cache is too large, in its next operation or tick."""
        answer = {}
        with measured(answer):
            self.mounts[0].conf_set("client_cache_size", "1")
            self.mounts[0].stat(path)
        return answer

    def memory(self):
        return {"memory": resident()}


def choose(folders, each, count, seed):
    paths = [f"{folder}/{number}" for folder in folders for number in range(each)]
    return random.Random(seed).choices(paths, k=count)


def spread(one, count, workers):
    """``one(number)`` for each number, over some threads."""
    if workers == 1:
        for number in range(count):
            one(number)
        return
    numbers, failures = iter(range(count)), []

    def work():
        try:
            for number in numbers:  # the iterator of a range may be shared: its step is not interrupted
                one(number)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def main():
    theirs = Theirs(sys.argv[1])
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(theirs, command.pop("op"))(**command)
        except Exception as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)
    if theirs.mounts:
        theirs.leave()


if __name__ == "__main__":
    main()
