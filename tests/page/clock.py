"""Times from a click to the answer; prints them as JSON."""

import json

from common import BASE, GIVEN, Visit, sync_playwright

CLOCK = """
() => {
  window.times = [];
  let clicked = 0;
  document.addEventListener("click", (event) => { if (event.target.id === "ask") clicked = event.timeStamp; }, true);
  new MutationObserver(() => {
    if (clicked === 0 || !document.querySelector("#outcome article.answer svg, #outcome article.answer .declined")) return;
    const [from, there] = [clicked, performance.now()];
    clicked = 0;
    requestAnimationFrame(() => setTimeout(() => window.times.push([there - from, performance.now() - from])));
  }).observe(document.body, { childList: true, subtree: true });
}
"""

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(
        executable_path=GIVEN["chromium"], args=["--no-sandbox", "--ignore-certificate-errors", "--disable-gpu"]
    )
    visit = Visit(browser, service_workers="block")
    loaded = {}
    def weigh(response):
        if response.ok and not response.url.startswith(BASE + "/v1/"):
            loaded[response.url] = len(response.body())

    visit.page.on("response", weigh)
    visit.open().sign_in(GIVEN["token"])
    weight = sum(loaded.values())
    paths = ["/operator", "/page/operator.js", "/page/zh.json", "/page/icon-192.png", "/page/icon-512.png", "/sw.js", "/manifest.webmanifest", "/page/icon.svg"]
    rest = {BASE + path: len(visit.context.request.get(BASE + path).body()) for path in paths}
    everything = sum(rest[url] for url in rest if url not in loaded) + weight
    visit.page.evaluate(CLOCK)
    for n, variant in enumerate(GIVEN["variants"]):
        if n:
            visit.page.get_by_role("button", name=visit.t("new")).click()
        visit.page.fill("#field-variant", variant)
        visit.page.click("#ask")
        visit.until(f"window.times.length === {n + 1}")
    times = visit.page.evaluate("window.times")[GIVEN["warm_up"]:]
    told = {
        "document_ms": [one[0] for one in times],
        "frame_ms": [one[1] for one in times],
        "loaded": weight,
        "all": everything,
        "browser": f"Chromium {browser.version}",
    }
    # The worker is kept out so that every file is loaded; that is said on the console.
    visit.errors = [error for error in visit.errors if not error.startswith("Service Worker registration blocked")]
    visit.close(refusals=0)
    browser.close()
print(json.dumps(told))
