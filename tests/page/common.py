"""A browser on a box, and what every page must keep to: nothing from elsewhere, no violation, no error, nothing kept."""

import json
import sys
import time

from playwright.sync_api import expect, sync_playwright

GIVEN = json.load(open(sys.argv[1]))
BASE = GIVEN["base"]
PATIENCE = 60_000
LANGUAGES = ["en", "zh"]
WORDS = {tag: json.load(open(f"{GIVEN['words']}/{tag}.json")) for tag in LANGUAGES}
AXE = open(GIVEN["axe"]).read() if GIVEN["axe"] else None
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""

expect.set_options(timeout=PATIENCE)


def said(key, language="en", **names):
    text = WORDS[language][key]
    for name, value in names.items():
        text = text.replace("{" + name + "}", str(value))
    return text


class Visit:
    """One context of a browser: what is loaded in it is watched."""

    def __init__(self, browser, language="en", scheme="light", **options):
        locale = "zh-CN" if language == "zh" else "en-GB"
        self.language = language
        self.context = browser.new_context(
            locale=locale, color_scheme=scheme, ignore_https_errors=True, accept_downloads=True, **options
        )
        self.context.set_default_timeout(PATIENCE)
        self.context.add_init_script(WATCH)
        self.elsewhere, self.errors, self.expected = [], [], 0
        self.context.on("request", self._request)
        self.page = self.context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _request(self, request):
        if not request.url.startswith((BASE, f"blob:{BASE}")):
            self.elsewhere.append(request.url)

    def _console(self, message):
        if message.type not in ("error", "warning"):
            return
        # What the box refused is said by the browser too; nothing else is.
        if message.text.startswith("Failed to load resource: the server responded with a status of 4"):
            self.expected += 1
            return
        if message.text.startswith("Failed to load resource: the server responded with a status of 503"):
            self.expected += 1
            return
        self.errors.append(message.text)

    def t(self, key, **names):
        return said(key, self.language, **names)

    def open(self, path="/"):
        self.page.goto(BASE + path)
        self.page.wait_for_selector("body[data-started]")
        return self

    def sign_in(self, token):
        self.page.fill("#token", token)
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector("body[data-mode=in]")
        return self

    def ask(self, variant):
        self.page.fill("#field-variant", variant)
        self.page.click("#ask")
        return self.outcome()

    def outcome(self):
        self.page.wait_for_selector("body:not([data-asking]) #answer")
        return self.page.locator("#outcome")

    def until(self, expression):
        """Waits for something on the page, whose policy lets nobody evaluate a text in it."""
        ends = time.monotonic() + PATIENCE / 1000
        while not self.page.evaluate(expression):
            assert time.monotonic() < ends, f"not within {PATIENCE} ms: {expression}"
            self.page.wait_for_timeout(20)

    def axe(self, name):
        """Accessibility, by every rule of axe."""
        if AXE is None:
            return
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE)
        found = self.page.evaluate('axe.run(document, { resultTypes: ["violations"] })')
        broken = [
            f"{one['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
            for one in found["violations"]
            for node in one["nodes"]
        ]
        assert not broken, f"{name} in {self.language}: {broken}"

    def each_look(self, name, narrow=True):
        """The same view in both languages and both schemes, and on a phone."""
        first = self.language
        for _ in LANGUAGES:
            self.axe(f"{name}, light")
            self.page.emulate_media(color_scheme="dark")
            self.axe(f"{name}, dark")
            self.page.emulate_media(color_scheme="light")
            assert self.page.evaluate("document.documentElement.lang").startswith(self.language)
            if narrow:
                self.fits(name)
            self.turn()
        assert self.language == first

    def fits(self, name):
        size = self.page.viewport_size
        for width in (320, 640):
            self.page.set_viewport_size({"width": width, "height": 720})
            wide = self.page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth")
            assert wide <= 0, f"{name} in {self.language}: {wide} pixels too wide at {width}"
        self.page.set_viewport_size(size)

    def turn(self):
        other = "zh" if self.language == "en" else "en"
        self.page.click("#language")
        self.until(f"document.documentElement.lang.startsWith('{other}')")
        self.language = other

    def close(self, refusals=None):
        """Nothing was loaded from elsewhere, forbidden, wrong or kept."""
        if not self.page.is_closed():
            if self.page.url.startswith(BASE):
                assert self.page.evaluate("window.violations || []") == [], self.page.evaluate("window.violations")
                kept = self.page.evaluate(
                    """async () => ({
                        local: localStorage.length, session: sessionStorage.length, cookie: document.cookie,
                        databases: (await indexedDB.databases()).length,
                        caches: (await Promise.all((await caches.keys()).map(async (name) =>
                            (await (await caches.open(name)).keys()).map((one) => new URL(one.url).pathname)))).flat(),
                    })"""
                )
                shell = lambda path: path in ("/", "/operator", "/manifest.webmanifest") or path.startswith("/page/")
                assert all(shell(path) for path in kept.pop("caches")), kept
                assert kept == {"local": 0, "session": 0, "cookie": "", "databases": 0}, kept
            for cookie in self.context.cookies():
                assert cookie["name"] == "__Host-locus" and cookie["httpOnly"] and cookie["secure"], cookie
                assert cookie["sameSite"] == "Strict" and cookie["path"] == "/", cookie
        assert self.elsewhere == [], self.elsewhere
        assert self.errors == [], self.errors
        if refusals is not None:
            assert self.expected == refusals, f"{self.expected} refusals, expected {refusals}"
        self.context.close()


def run(tests):
    """Runs every test in one browser, and prints its name."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=GIVEN["chromium"], args=["--no-sandbox", "--ignore-certificate-errors", "--disable-gpu"]
        )
        for test in tests:
            test(browser)
            print(f"page: {test.__name__}", flush=True)
        browser.close()
