"""The operator's page, by token; and both pages by certificate."""

from common import BASE, GIVEN, WORDS, Visit, expect, run


def a_terminal_is_no_operator(browser):
    visit = Visit(browser).open("/operator").sign_in(GIVEN["token"])
    expect(visit.page.locator("main")).to_contain_text(visit.t("refusal.role"))
    assert visit.page.locator("nav").count() == 0
    for path, send in [("/v1/operator", None), ("/v1/audit", None), ("/v1/confirm", "{}"), ("/v1/flash", "x")]:
        headers = {"origin": BASE}
        request = visit.context.request
        got = request.get(BASE + path) if send is None else request.post(BASE + path, data=send, headers=headers)
        assert got.status == 403 and got.json()["reason"] == "role", (path, got.status)
    visit.each_look("a page for operators, as a terminal")
    visit.close(refusals=0)


def sure(visit, yes=True):
    expect(visit.page.locator("dialog")).to_be_visible()
    expect(visit.page.locator("#sure-no")).to_be_focused()
    visit.page.click("#sure-yes" if yes else "#sure-no")
    expect(visit.page.locator("dialog")).to_have_count(0)


def the_box_is_flashed_confirmed_reverted_and_all_is_written_down(browser):
    visit = Visit(browser).open("/operator").sign_in(GIVEN["operator"])
    page = visit.page
    expect(page.locator("h1")).to_have_text(visit.t("page.operator.long"))
    expect(page.locator(".slot .active")).to_contain_text("1.")
    for key in ("health.authority", "disk.reserve", "journal.recipients", "engines.provider", "audit.by"):
        expect(page.locator("main")).to_contain_text(visit.t(key))
    visit.each_look("the operator's page")

    def flash(file):
        page.set_input_files("#bundle", file)
        page.click("#flash")
        visit.axe("a question before a flash")
        sure(visit)

    page.set_input_files("#bundle", GIVEN["two"])
    page.click("#flash")
    sure(visit, yes=False)
    assert page.locator(".slot .trial").count() == 0 and page.locator("#told").count() == 0
    visit.turn()
    visit.turn()
    assert page.evaluate("document.getElementById('bundle').files.length") == 1, "a page that is drawn anew forgets the file"
    flash(GIVEN["two"])
    expect(page.locator("#told")).to_contain_text("variant-effect 8.0.0-two")
    expect(page.locator("#told")).to_be_focused()
    expect(page.locator(".slot .trial")).to_contain_text("8.0.0-two")
    expect(page.locator(".alarms")).to_contain_text(visit.t("alarm.trial"))
    visit.each_look("a trial")
    page.click("#revert-variant-effect")
    sure(visit)
    expect(page.locator("#told")).to_have_text(visit.t("done.revert", model="variant-effect"))
    expect(page.locator(".slot .trial")).to_have_count(0)
    flash(GIVEN["two"])
    expect(page.locator(".slot .trial")).to_contain_text("8.0.0-two")
    page.click("#confirm-variant-effect")
    sure(visit)
    expect(page.locator("#told")).to_have_text(visit.t("done.confirm", model="variant-effect"))
    expect(page.locator(".slot .active")).to_contain_text("8.0.0-two")
    expect(page.locator(".slot .previous")).to_contain_text("1.")
    page.click("#rollback-variant-effect")
    sure(visit)
    expect(page.locator("#told")).to_have_text(visit.t("done.rollback", model="variant-effect"))
    expect(page.locator("#told")).to_be_focused()
    flash(GIVEN["unsigned"])
    expect(page.locator("#told")).to_contain_text(visit.t("done.refused"))
    expect(page.locator("#told .own")).not_to_be_empty()
    visit.each_look("a refused flash")
    rows = page.locator("section:last-of-type tbody tr").all_inner_texts()
    for what in ("tried.flash", "tried.revert", "tried.confirm", "tried.rollback"):
        assert any(visit.t(what) in row and "anna" in row for row in rows), (what, rows)
    assert any(visit.t("stage.refused") in row for row in rows), rows
    assert any(visit.t("audit.local") in row for row in rows), "what was done on the box has no name"
    page.get_by_role("link", name=visit.t("page.ask"), exact=True).click()
    page.wait_for_selector("body[data-started]")
    expect(page.locator("h1")).to_have_text(visit.t("page.ask.long"))
    visit.close(refusals=0)


def a_certificate_is_enough(browser):
    files = GIVEN["certificate"]
    shown = [{"origin": BASE, "certPath": files + ".crt", "keyPath": files + ".key"}]
    visit = Visit(browser, client_certificates=shown).open()
    page = visit.page
    expect(page.locator("h1")).to_have_text(visit.t("page.ask.long"))
    expect(page.locator(".who")).to_contain_text("ward-cert")
    assert page.locator("#sign-out").count() == 0
    outcome = visit.ask("chr1-1201-T-A")
    expect(outcome.locator("article.answer .record")).to_contain_text("ward-cert")
    visit.close(refusals=0)


if __name__ == "__main__":
    run([a_terminal_is_no_operator, the_box_is_flashed_confirmed_reverted_and_all_is_written_down, a_certificate_is_enough])
