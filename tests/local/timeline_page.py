"""Drives a page of `history --html` in Chromium, over its debugging pipe: `timeline_page.py PAGE`. Prints `fine`."""

import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
]


class Browser:
    """Chromium reads commands from its descriptor 3, and writes answers and events to 4: JSON, each with a NUL."""

    def __init__(self, folder):
        commands, answers = os.pipe(), os.pipe()
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (commands[0], answers[1])]
        os.close(commands[0])
        os.close(answers[1])

        def connect():
            for number, end in zip((3, 4), theirs):
                os.dup2(end, number)

        self.process = subprocess.Popen(
            ["chromium", *FLAGS, f"--user-data-dir={folder}/profile", "about:blank"],
            preexec_fn=connect, pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": folder},
        )
        for end in theirs:
            os.close(end)
        self.commands, self.answers = os.fdopen(commands[1], "wb", 0), os.fdopen(answers[0], "rb", 0)
        self.number, self.rest, self.session, self.events = 0, b"", None, []

    def message(self):
        while b"\0" not in self.rest:
            more = os.read(self.answers.fileno(), 1 << 16)
            assert more, "Chromium has ended"
            self.rest += more
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def ask(self, method, **params):
        self.number += 1
        command = {"id": self.number, "method": method, "params": params}
        if self.session:
            command["sessionId"] = self.session
        self.commands.write(json.dumps(command).encode() + b"\0")
        while (message := self.message()).get("id") != self.number:
            self.events.append(message)
        assert "error" not in message, (method, message)
        return message["result"]

    def wait_for(self, event):
        while all(seen.get("method") != event for seen in self.events):
            self.events.append(self.message())

    def value(self, script):
        result = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def close(self):
        self.session = None
        self.process.terminate()
        self.process.wait()


def drive(browser, page):
    target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
    browser.session = browser.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Runtime", "Log", "Page"):
        browser.ask(f"{domain}.enable")
    browser.ask("Emulation.setDeviceMetricsOverride", width=1100, height=900, deviceScaleFactor=1, mobile=False)
    browser.ask("Page.navigate", url=pathlib.Path(page).absolute().as_uri())
    browser.wait_for("Page.loadEventFired")

    # Whatever is drawn is within the picture, and no mark is over a label.
    outside = browser.value("""(() => {
        const box = document.querySelector('svg').getBoundingClientRect();
        const labels = Math.max(...[...document.querySelectorAll('text.row')].map(t => t.getBoundingClientRect().right));
        return [...document.querySelectorAll('svg text, g.request')].filter(e => {
            const own = e.getBoundingClientRect();
            return own.left < box.left - 1 || own.right > box.right + 1 || own.bottom > box.bottom + 1
                || (e.matches('g.request') && own.left < labels);
        }).map(e => e.textContent);
    })()""")
    assert outside == [], outside
    # No two texts touch.
    touching = browser.value("""(() => {
        const texts = [...document.querySelectorAll('svg text')].map(t => [t.textContent, t.getBoundingClientRect()]);
        return texts.flatMap(([one, a], i) => texts.slice(i + 1).filter(([, b]) =>
            a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom).map(([two]) => [one, two]));
    })()""")
    assert touching == [], touching
    locks = browser.value("[...document.querySelectorAll('text.lock')].map(t => t.textContent)")
    assert locks == ["disk", "net"], locks

    # The list opens by a click.
    assert browser.value("document.querySelector('li').checkVisibility()") is False
    place = browser.value("(r => [r.left + 5, r.top + 5])(document.querySelector('summary').getBoundingClientRect())")
    for kind in ("mousePressed", "mouseReleased"):
        browser.ask("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)
    assert browser.value("document.querySelector('li').checkVisibility()") is True

    # What is typed fades the rest.
    count = "document.querySelectorAll('g.request:not(.other)').length"
    everything = browser.value(count)
    browser.value("document.getElementById('only').focus()")
    browser.ask("Input.insertText", text="Refused")
    assert browser.value(count) == 2, browser.value(count)
    assert browser.value("document.getElementById('found').textContent") == f"2 of {everything} requests"
    shown = browser.value("[...document.querySelectorAll('li')].filter(l => l.checkVisibility()).map(l => l.textContent)")
    assert len(shown) == 2 and all(text.startswith("disk: ") and ", refused" in text for text in shown), shown
    faded = browser.value("getComputedStyle(document.querySelector('g.request.other')).opacity")
    assert float(faded) < 0.5, faded

    # A telephone.
    browser.ask("Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=True)
    assert browser.value("document.querySelector('svg').getBoundingClientRect().right") <= 400

    wrong = [event for event in browser.events if event.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert wrong == [], wrong


folder = tempfile.mkdtemp()
browser = Browser(folder)
try:
    drive(browser, sys.argv[1])
finally:
    browser.close()
    shutil.rmtree(folder, ignore_errors=True)
print("fine")
