"""The pictures of the documentation."""

import io

from PIL import Image

from common import GIVEN, Visit, expect, run

VARIANTS = GIVEN["variants"]
SIZE = {"width": 1000, "height": 760}


def save(visit, name, whole=True):
    visit.page.evaluate("window.scrollTo(0, 0)")
    taken = visit.page.screenshot(full_page=whole, animations="disabled")
    # So many colours are enough for a page, and the picture stays small.
    Image.open(io.BytesIO(taken)).convert("RGB").quantize(48, dither=Image.Dither.NONE).save(f"{GIVEN['out']}/{name}.png", optimize=True)


def asked(browser, token, variant, language="en", **options):
    visit = Visit(browser, language=language, viewport=options.pop("viewport", SIZE), **options).open().sign_in(token)
    visit.ask(variant)
    return visit


def answers(browser):
    for name, variant, language in [
        ("answer-en", "pathogenic", "en"), ("answer-zh", "pathogenic", "zh"), ("uncertain-en", "uncertain", "en"),
        ("abstention-zh", "abstained", "zh"), ("fault-en", "wrong", "en"),
    ]:
        visit = asked(browser, GIVEN["token"], VARIANTS[variant], language)
        visit.page.evaluate("document.activeElement.blur()")
        save(visit, name)
        visit.close()


def dark_and_small(browser):
    visit = asked(browser, GIVEN["token"], VARIANTS["benign"], "zh", viewport={"width": 390, "height": 800})
    visit.page.evaluate("document.activeElement.blur()")
    save(visit, "phone-zh")
    visit.close()
    visit = asked(browser, GIVEN["token"], VARIANTS["pathogenic"], scheme="dark")
    visit.page.evaluate("document.activeElement.blur()")
    save(visit, "dark-en", whole=False)
    visit.close()


def operators(browser):
    for language in ("en", "zh"):
        visit = Visit(browser, language=language, viewport=SIZE).open("/operator").sign_in(GIVEN["operator"])
        expect(visit.page.locator(".slot .active")).to_contain_text("1.")
        visit.page.evaluate("document.activeElement.blur()")
        save(visit, f"operator-{language}")
        visit.close()


if __name__ == "__main__":
    run([answers, dark_and_small, operators])
