"""The page on a box that is busy, ends sessions early, and goes away."""

import os
import signal

from common import GIVEN, Visit, expect, run

TOKEN = GIVEN["token"]


def a_busy_box_is_asked_again_and_says_so(browser):
    visit = Visit(browser).open().sign_in(TOKEN)
    page = visit.page
    outcome = visit.ask("chr1-1201-T-A")
    expect(outcome.locator(".fault code")).to_have_text("busy")
    expect(outcome.locator(".fault h2")).to_contain_text(visit.t("fault.busy"))
    assert visit.expected == 4, f"asked {visit.expected} times"
    visit.each_look("a busy box")
    expect(page.get_by_role("button", name=visit.t("ask_again"))).to_be_visible()
    open(GIVEN["calm"], "w").close()
    # Whoever flooded the box ends; the same request is answered then.
    for _ in range(20):
        page.get_by_role("button", name=visit.t("ask_again")).click()
        page.wait_for_selector("body:not([data-asking]) #answer")
        if page.locator("article.answer").count() == 1:
            break
    expect(page.locator("article.answer")).to_be_visible()
    visit.close()


def a_session_that_is_over_takes_the_answer_with_it(browser):
    visit = Visit(browser).open().sign_in(TOKEN)
    visit.ask("chr1-1201-T-A")
    expect(visit.page.locator("article.answer")).to_be_visible()
    expect(visit.page.locator("h1")).to_have_text(visit.t("sign_in"))
    expect(visit.page.locator(".note")).to_have_text(visit.t("sign_in.over"))
    assert visit.page.locator("#answer").count() == 0
    visit.each_look("a session that is over")
    visit.close()


def a_box_that_is_gone_says_so_and_shows_its_shell(browser):
    visit = Visit(browser).open()
    page = visit.page
    visit.until("navigator.serviceWorker.ready.then(() => true)")
    page.reload()
    visit.until("navigator.serviceWorker.controller !== null")
    visit.sign_in(TOKEN)
    os.kill(GIVEN["pid"], signal.SIGTERM)
    expect(page.locator(".state")).to_have_text(visit.t("state.gone"))
    page.reload()
    page.wait_for_selector("body[data-started]")
    expect(page.locator("h1")).to_have_text(visit.t("gone"))
    visit.each_look("a box that is gone")
    page.goto(GIVEN["base"] + "/operator")
    page.wait_for_selector("body[data-started]")
    expect(page.locator("h1")).to_have_text(visit.t("gone"))
    lost = ("net::ERR_CONNECTION_REFUSED", "net::ERR_CONNECTION_CLOSED", "net::ERR_CONNECTION_RESET", "net::ERR_EMPTY_RESPONSE", "net::ERR_FAILED", "net::ERR_SOCKET_NOT_CONNECTED")
    visit.errors = [error for error in visit.errors if not error.endswith(lost)]
    visit.close()


if __name__ == "__main__":
    run([a_busy_box_is_asked_again_and_says_so, a_session_that_is_over_takes_the_answer_with_it, a_box_that_is_gone_says_so_and_shows_its_shell])
