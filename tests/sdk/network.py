"""A whole Cocoon network as one process, on free ports, for the time of a test."""

import json
import os
import re
import signal
import subprocess
import urllib.request


class Network:
    def __init__(self, state, *flags):
        program = os.environ["COCOON_TEST_PROGRAM"]
        command = [program, "up", "--free-ports", "--no-detect", "--state", str(state), *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        # The table is printed when a prompt would be answered; nothing before it goes to standard output.
        self.table = ""
        for line in self.process.stdout:
            self.table += line
            if "Ctrl-C" in line:
                break
        else:
            raise RuntimeError(f"cocoon up ended with {self.process.wait()}; logs are in {state}")
        self.client = self.address("client")
        self.proxy = self.address("proxy")
        self.worker = self.address("worker")

    def address(self, role):
        return re.search(rf"^  {role} +http://([^/ ]+)", self.table, re.MULTILINE).group(1)

    def stats(self, role):
        address = {"client": self.client, "proxy": self.proxy, "worker": self.worker}[role]
        with urllib.request.urlopen(f"http://{address}/jsonstats") as answer:
            return json.load(answer)

    def stop(self):
        """Ctrl-C, as a person stops it; returns the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait()
