"""Headless Chromium (Debian's package) for the Python tests, spoken to through its DevTools pipe; nothing else is needed.

python3 tests/browser.py PAGE.html IMAGE.png [WIDTH [dark]] makes a picture of a whole page.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = shutil.which("chromium")
MISSING = "chromium is missing (Debian: apt-get install chromium)"
# No sandbox: tests run as root in containers. No /dev/shm: it is small there. Nothing is asked of the network.
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
           "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
           "--proxy-server=127.0.0.1:9", "--remote-debugging-pipe"]
TIMEOUT_S = 60


class BrowserError(Exception):
    pass


class Browser:
    """One page. Events of DevTools are kept in `events`, oldest first."""

    def __init__(self):
        if PROGRAM is None:
            raise BrowserError(MISSING)
        self.profile = tempfile.mkdtemp(prefix="attnbench-browser-")
        ours_in, theirs_out = os.pipe()
        theirs_in, self.output = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4; moved out of the way first, so that neither replaces the other.
        reads, writes = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (theirs_in, theirs_out))

        def place():
            os.dup2(reads, 3)
            os.dup2(writes, 4)

        nowhere = subprocess.DEVNULL
        self.process = subprocess.Popen([PROGRAM, *OPTIONS, f"--user-data-dir={self.profile}", "about:blank"], pass_fds=(3, 4),
                                        preexec_fn=place, stdin=nowhere, stdout=nowhere, stderr=nowhere)
        for end in (theirs_in, theirs_out, reads, writes):
            os.close(end)
        self.input, self.unread, self.last_id, self.events, self.session = ours_in, b"", 0, [], None
        page = next(target for target in self.call("Target.getTargets")["targetInfos"] if target["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.input)
        os.close(self.output)
        shutil.rmtree(self.profile, ignore_errors=True)

    def receive(self, until):
        while b"\0" not in self.unread:
            ready, _, _ = select.select([self.input], [], [], max(0, until - time.monotonic()))
            part = os.read(self.input, 1 << 20) if ready else b""
            if not part:
                raise BrowserError("no answer from chromium")
            self.unread += part
        message, self.unread = self.unread.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **parameters):
        self.last_id += 1
        message = {"id": self.last_id, "method": method, "params": parameters}
        if self.session and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.output, data):]
        until = time.monotonic() + TIMEOUT_S
        while (answer := self.receive(until)).get("id") != self.last_id:
            self.events.append(answer)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def run(self, script):
        """Value of an expression in the page; promises are waited for."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise BrowserError(result["exceptionDetails"]["exception"].get("description", "exception in the page"))
        return result["result"].get("value")

    def open(self, path, width=1280, height=900, dark=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.events.clear()
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        self.run("new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', () => done()))")

    def press(self, key, text=""):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text if kind == "keyDown" else "",
                      windowsVirtualKeyCode={"Enter": 13, "Tab": 9}.get(key, 0))

    def complaints(self):
        """What the console shows, exceptions included."""
        kept = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event["params"] for event in self.events if event.get("method") in kept]

    def requests(self):
        sent = [event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [parameters["request"]["url"] for parameters in sent]

    def picture(self, path):
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        image = self.call("Page.captureScreenshot", captureBeyondViewport=True,
                          clip={"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16000), "scale": 1})
        Path(path).write_bytes(base64.b64decode(image["data"]))


if __name__ == "__main__":
    with Browser() as chromium:
        chromium.open(sys.argv[1], width=int(sys.argv[3]) if len(sys.argv) > 3 else 1280, dark="dark" in sys.argv[4:])
        chromium.picture(sys.argv[2])
