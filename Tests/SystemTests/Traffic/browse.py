#!/usr/bin/env python3
"""Looks at a page with a Chromium without a window, and prints as JSON what came of it.

    browse.py CHROMIUM URL SECONDS [--click] [--dark] [--size 1200x1400] [--picture FILE.png]

Waits SECONDS with the page open; with --click it then searches for addresses and traces a frame, as a person would. What is
printed: `text` of the page, `markup` (elements that page.html does not make), `cut` (tables of which a part is beyond the
edge), `errors` of the console.
"""

import argparse
import base64
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time


class Browser:
    """Talks the DevTools protocol on two pipes: messages of JSON, each with a zero behind it."""

    def __init__(self, program, directory):
        to_browser, self.writer = os.pipe()
        self.reader, from_browser = os.pipe()
        # A shell gives the pipes the numbers that Chromium looks for.
        self.process = subprocess.Popen(
            ["sh", "-c", f"exec \"$0\" \"$@\" 3<&{to_browser} 4>&{from_browser}", program, "--no-sandbox", "--disable-gpu",
             "--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={directory}", "about:blank"],
            pass_fds=(to_browser, from_browser), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True)
        os.close(to_browser)
        os.close(from_browser)
        self.buffer, self.number, self.errors = b"", 0, []

    def call(self, method, session=None, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.writer, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 60
        while True:
            answer = self.next(deadline)
            if answer.get("id") == self.number:
                if "error" in answer:
                    sys.exit(f"browse: {method}: {answer['error']}")
                return answer["result"]

    def next(self, deadline):
        while b"\0" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.reader], [], [], left)[0]:
                sys.exit("browse: the browser does not answer")
            chunk = os.read(self.reader, 1 << 20)
            if not chunk:
                sys.exit("browse: the browser has ended")
            self.buffer += chunk
        text, _, self.buffer = self.buffer.partition(b"\0")
        message = json.loads(text)
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(message["params"]["exceptionDetails"].get("text", "exception"))
        if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.errors.append(message["params"]["entry"]["text"])
        return message


CLICKS = """(async () => {
  const wait = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
  document.querySelector('#find input').value = '172.17.42.';
  document.querySelector('#find button').click();
  const ports = document.querySelector('#trace select');
  ports.value = [...ports.options].map(option => option.value).findLast(name => name.startsWith('eth0@'));
  document.querySelector('#trace input').value = 'to 172.17.42.32';
  document.querySelector('#trace button').click();
  await wait(2000);
})()"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chromium")
    parser.add_argument("url")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--click", action="store_true")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--size", default="1200x1400")
    parser.add_argument("--picture")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    # Its processes may write to the end, and one that is on its way out makes no failure of what
    # was seen.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        browser = Browser(options.chromium, directory)
        try:
            target = browser.call("Target.createTarget", url="about:blank")["targetId"]
            session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log"):
                browser.call(f"{domain}.enable", session)
            browser.call("Emulation.setDeviceMetricsOverride", session, width=width, height=height, deviceScaleFactor=1,
                         mobile=width < 600)
            if options.dark:
                browser.call("Emulation.setEmulatedMedia", session,
                             features=[{"name": "prefers-color-scheme", "value": "dark"}])
            browser.call("Page.navigate", session, url=options.url)
            end = time.monotonic() + options.seconds
            while time.monotonic() < end:
                browser.call("Runtime.evaluate", session, expression="0")
                time.sleep(0.2)

            def evaluate(expression):
                result = browser.call("Runtime.evaluate", session, expression=expression, awaitPromise=True,
                                      returnByValue=True)
                return result["result"].get("value")

            if options.click:
                evaluate(CLICKS)
            if options.picture:
                shot = browser.call("Page.captureScreenshot", session, format="png")
                with open(options.picture, "wb") as file:
                    file.write(base64.b64decode(shot["data"]))
            print(json.dumps({
                "text": evaluate("document.body.innerText"),
                "markup": evaluate("document.querySelectorAll('b, img, iframe, a, script[src]').length"),
                "curves": evaluate("document.querySelectorAll('#ports svg path[d*=L]').length"),
                "cut": evaluate("[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth).length"),
                "width": evaluate("document.documentElement.scrollWidth"),
                "errors": browser.errors,
            }))
        finally:
            os.killpg(browser.process.pid, signal.SIGKILL)
            browser.process.wait()


if __name__ == "__main__":
    main()
