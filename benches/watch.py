#!/usr/bin/env python3
"""Runs a command and watches it: watch.py [OPTION VALUE]... COMMAND...

Prints NAME=VALUE pairs: status, seconds, cores (seconds of user and system time), rss_kib (peak), and

  --notify SOCKET   heartbeats, gap (longest silence in seconds between two WATCHDOG=1, from the start to the end)
  --staging DIR     staging (most bytes of allocated blocks below it, sampled every 5 ms), samples
  --cached DIR      cached (most bytes of files below it in the page cache, sampled twice a second); may stand twice
  --seconds N       ends the command by SIGTERM after that time
  --settled N       idle_cores: seconds of cores after these first seconds, to the end of the time, per second
  --log FILE        where what the command prints goes
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

TICK = os.sysconf("SC_CLK_TCK")


def allocated(directory):
    """Bytes of allocated blocks below a directory, itself included. What goes away meanwhile takes nothing."""
    total = 0
    stack = [directory]
    while stack:
        place = stack.pop()
        try:
            total += 512 * os.lstat(place).st_blocks
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
                    else:
                        try:
                            total += 512 * entry.stat(follow_symlinks=False).st_blocks
                        except OSError:
                            pass
        except OSError:
            pass
    return total


def cached(directory):
    """Bytes of files below a directory that are in the page cache."""
    files = [os.path.join(at, name) for at, _, names in os.walk(directory) for name in names]
    total = 0
    for begin in range(0, len(files), 500):
        told = subprocess.run(
            ["fincore", "--bytes", "--noheadings", "--raw", "--output", "RES", *files[begin : begin + 500]],
            capture_output=True,
            text=True,
        )
        total += sum(int(word) for word in told.stdout.split())
    return total


class Watch:
    def __init__(self, options, command):
        self.options = options
        self.command = command
        self.told = {}
        self.done = threading.Event()

    def highest(self, name, every, measure):
        samples = 0
        while not self.done.is_set():
            self.told[name] = max(self.told.get(name, 0), measure())
            samples += 1
            self.done.wait(every)
        if name == "staging":
            self.told["samples"] = samples

    def listen(self, listener, began):
        last, beats, gap = began, 0, 0.0
        listener.settimeout(0.2)
        while not self.done.is_set():
            try:
                message = listener.recv(4096)
            except TimeoutError:
                continue
            if b"WATCHDOG=1" in message:
                now = time.monotonic()
                gap, last, beats = max(gap, now - last), now, beats + 1
        gap = max(gap, time.monotonic() - last)
        self.told.update(heartbeats=beats, gap=f"{gap:.1f}")

    def settle(self, pid, begin, end):
        def cores():
            with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / TICK

        time.sleep(begin)
        try:
            before = cores()
            if not self.done.wait(end - begin - 0.5):
                self.told["idle_cores"] = f"{(cores() - before) / (end - begin - 0.5):.4f}"
        except OSError:
            pass

    def run(self):
        began = time.monotonic()
        environment = dict(os.environ)
        threads = []

        def start(target, *args):
            threads.append(threading.Thread(target=target, args=args))
            threads[-1].start()

        for name in self.options.get("--notify", []):
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            listener.bind(name)
            environment.update(NOTIFY_SOCKET=name, WATCHDOG_USEC="30000000")
            start(self.listen, listener, began)
        for place in self.options.get("--staging", []):
            start(self.highest, "staging", 0.005, lambda: allocated(place))
        if places := self.options.get("--cached"):
            start(self.highest, "cached", 0.5, lambda: sum(map(cached, places)))
        with open(self.options.get("--log", ["/dev/null"])[0], "wb") as log:
            child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        limit = float(self.options.get("--seconds", [0])[0])
        if "--settled" in self.options:
            start(self.settle, child.pid, float(self.options["--settled"][0]), limit)
        if limit:
            timer = threading.Timer(limit, lambda: os.kill(child.pid, signal.SIGTERM))
            timer.start()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if limit:
            timer.cancel()
        self.done.set()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
        self.told.update(
            status=child.returncode,
            seconds=f"{took:.2f}",
            cores=f"{usage.ru_utime + usage.ru_stime:.2f}",
            rss_kib=usage.ru_maxrss,
        )
        print(" ".join(f"{name}={value}" for name, value in self.told.items()))


def main():
    args = sys.argv[1:]
    options = {}
    while args and args[0].startswith("--"):
        options.setdefault(args[0], []).append(args[1])
        args = args[2:]
    if not args:
        sys.exit(__doc__)
    Watch(options, args).run()


main()
