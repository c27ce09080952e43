"""The page at the bedside, on a box with a genome of one region."""

import json

from common import BASE, GIVEN, PATIENCE, WORDS, Visit, expect, run, said

TOKEN = GIVEN["token"]
VARIANTS = GIVEN["variants"]


def signs_in_and_out(browser):
    visit = Visit(browser).open()
    page = visit.page
    expect(page.locator("h1")).to_have_text(visit.t("sign_in"))
    assert page.locator(".where").count() == 0, "whoever is not signed in does not learn which box it is"
    page.fill("#token", "locus-token-" + "0" * 64)
    page.click("button[type=submit]")
    expect(page.locator("#problem")).to_have_text(visit.t("refusal.unknown_token"))
    expect(page.locator("#token")).to_be_focused()
    assert page.input_value("#token") == ""
    visit.each_look("signing in")
    visit.sign_in(TOKEN)
    expect(page.locator(".where")).to_contain_text("box-1")
    expect(page.locator(".state")).to_have_text(visit.t("state.ready"))
    expect(page.locator(".strip")).to_contain_text("variant-effect")
    visit.each_look("asking")
    visit.ask(VARIANTS["uncertain"])
    page.click("#sign-out")
    expect(page.locator("h1")).to_have_text(visit.t("sign_in"))
    assert page.locator("#answer").count() == 0 and page.locator(".strip span").count() == 0
    page.reload()
    expect(page.locator("h1")).to_have_text(visit.t("sign_in"))
    visit.close(refusals=1)


def every_kind_of_name_is_understood(browser):
    visit = Visit(browser).open().sign_in(TOKEN)
    page = visit.page
    contig, position, reference, alternate = VARIANTS["uncertain"].split("-")
    for kind, text in [
        ("coordinates", VARIANTS["uncertain"]),
        ("coordinates", f"{contig}:{position} {reference.lower()}>{alternate}"),
        ("vcf", f"{contig}\t{position}\t.\t{reference}\t{alternate}\t50\tPASS\t."),
        ("vcf", f"{contig} {position} rs1 {reference} {alternate}"),
        ("hgvs", VARIANTS["hgvs"]),
        ("gene", VARIANTS["gene"]),
    ]:
        outcome = visit.ask(text)
        expect(page.locator("#understood")).to_have_text(visit.t(f"kind.{kind}"))
        expect(outcome.locator("article")).to_be_visible()
        expect(page.locator("#answer")).to_be_focused()
        expect(page.locator("p[role=status].unseen")).not_to_be_empty()
        expect(outcome.locator(".what")).to_contain_text("GENE")
    expect(outcome.locator(".cautions")).to_contain_text("t1")
    for kind, text in [("nothing", "  "), ("alleles", f"{contig} {position} . {reference} {alternate},G"), ("many", "a\nb")]:
        page.fill("#field-variant", text)
        page.click("#ask")
        expect(page.locator("#understood")).to_have_text(visit.t(f"kind.{kind}"))
        expect(page.locator("#field-variant")).to_be_focused()
    for kind, text, code in [
        ("protein", "t1:p.Met4Lys", "bad_mutation"),
        ("bare", "c.12T>A", "bad_mutation"),
        ("unknown", "<img src=x onerror=alert(1)>", "bad_mutation"),
    ]:
        outcome = visit.ask(text)
        expect(page.locator("#understood")).to_have_text(visit.t(f"kind.{kind}"))
        expect(outcome.locator(".fault code")).to_have_text(code)
    assert page.locator("img").count() == 0
    page.check("#way-sequence")
    fact = GIVEN["fact"]
    page.fill("#field-sequence", ">a fasta name\n" + fact["sequence"])
    page.fill("#field-mutation", fact["mutation"])
    page.click("#ask")
    outcome = visit.outcome()
    expect(outcome.locator(".declined")).to_be_visible()
    expect(outcome.locator(".cautions")).to_contain_text(visit.t("caution.sequence_only"))
    page.locator("details summary").first.click()
    page.fill("#field-transcript", json.dumps(fact["transcript"]))
    page.click("#ask")
    expect(visit.outcome().locator(".scale")).to_be_visible()
    visit.each_look("a sequence")
    page.fill("#field-transcript", "{")
    page.click("#ask")
    expect(visit.outcome().locator(".fault")).to_contain_text(visit.t("transcript.unreadable"))
    visit.close(refusals=3)


def answers_look_like_what_they_are(browser):
    visit = Visit(browser).open().sign_in(TOKEN)
    page = visit.page
    for band in ("benign", "uncertain", "pathogenic"):
        outcome = visit.ask(VARIANTS[band])
        expect(outcome.locator(".verdict")).to_have_text(visit.t(f"verdict.{band}"))
        expect(outcome.locator(f".region.{band}.here")).to_have_count(1)
        expect(outcome.locator(".region.here")).to_have_count(1)
        region, mark = outcome.locator(".region.here").bounding_box(), outcome.locator(".mark line").bounding_box()
        assert region["x"] <= mark["x"] <= region["x"] + region["width"], (region, mark)
        expect(outcome.locator(".declined")).to_have_count(0)
        expect(outcome.locator(".use")).to_have_text(visit.t("intended_use"))
        strip = page.locator(".strip")
        expect(strip).to_contain_text("variant-effect 1.")
        expect(strip).to_contain_text("Provider" if GIVEN["onnxruntime"] else "tract")
        expect(outcome.locator(".record")).to_contain_text("ward-page")
        expect(outcome.locator(".record")).to_contain_text(visit.t("record.journal"))
        visit.each_look(f"an answer, {band}")
        expect(outcome.locator(".verdict")).to_have_text(visit.t(f"verdict.{band}"))
    outcome = visit.ask(VARIANTS["abstained"])
    expect(outcome.locator(".declined .verdict")).to_contain_text(visit.t("verdict.none"))
    expect(outcome.locator(".declined")).to_contain_text(visit.t("said.not_snv"))
    expect(outcome.locator(".scale, .region, .mark")).to_have_count(0)
    visit.each_look("an abstention")
    visit.turn()
    expect(page.locator(".declined .own")).to_contain_text("not a single-base variant")
    expect(page.locator(".declined")).to_contain_text(WORDS["zh"]["said.not_snv"])
    page.get_by_role("button", name=visit.t("new")).click()
    expect(page.locator("#field-variant")).to_be_focused()
    assert page.input_value("#field-variant") == "" and page.locator("#answer").count() == 0
    visit.close(refusals=0)


def the_sequence_is_drawn_and_told(browser):
    visit = Visit(browser).open().sign_in(TOKEN)
    page = visit.page
    outcome = visit.ask(VARIANTS["hgvs"])
    drawing = outcome.locator("svg.drawing")
    expect(drawing).to_be_visible()
    assert drawing.get_attribute("role") == "img" and len(drawing.get_attribute("aria-label")) > 40
    bars = drawing.locator(".bar")
    assert bars.count() == 20, bars.count()
    assert drawing.locator(".bar.up").count() + drawing.locator(".bar.down").count() == 20
    expect(drawing.locator(".here-box")).to_have_count(1)
    expect(drawing.locator(".residue.here")).to_have_count(2)
    outcome.locator(".as-table summary").click()
    rows = outcome.locator(".as-table tbody tr")
    assert rows.count() == 41, rows.count()
    told = [text for text in rows.locator("td:last-child").all_inner_texts() if text]
    assert len(told) == 20 and all("(" in text for text in told), told
    here = outcome.locator(".as-table tr.here td").all_inner_texts()
    assert here[0] == "T" and here[1] == visit.t("site.cds"), here
    bases = "".join(drawing.locator("text.base:not(.added)").all_text_contents())
    column = "".join(outcome.locator(".as-table tbody td:nth-child(2)").all_inner_texts())
    assert bases in column, (bases, column)
    page.set_viewport_size({"width": 360, "height": 800})
    visit.until("document.querySelectorAll('svg.drawing text.base').length < 25")
    assert page.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth")
    expect(drawing.locator(".here-box")).to_have_count(1)
    visit.close(refusals=0)


def faults_say_what_to_do(browser):
    visit = Visit(browser).open().sign_in(TOKEN)
    page = visit.page
    page.select_option("#assembly", "GRCh37")
    outcome = visit.ask(VARIANTS["uncertain"])
    expect(outcome.locator(".fault h2")).to_contain_text(visit.t("fault.wrong_assembly"))
    expect(outcome.locator(".fault")).to_contain_text(visit.t("todo.wrong_assembly"))
    expect(outcome.locator(".fault q")).to_contain_text("expected GRCh38")
    visit.each_look("a fault")
    assert page.input_value("#assembly") == "GRCh37", "what was chosen stays"
    page.select_option("#assembly", "GRCh38")
    contig, position, reference, alternate = VARIANTS["uncertain"].split("-")
    wrong = next(base for base in "ACGT" if base not in (reference, alternate))
    for text, code in [
        (f"{contig}-{position}-{wrong}-{alternate}", "ref_mismatch"),
        ("t1.9:c.12T>A", "unknown_transcript"),
        ("NC_000001.10:g.1201T>A", "wrong_assembly"),
        ("chr9-5-A-T", "unknown_contig"),
    ]:
        outcome = visit.ask(text)
        expect(outcome.locator(".fault code")).to_have_text(code)
        expect(outcome.locator(".fault")).to_contain_text(visit.t(f"todo.{code}"))
        expect(page.locator("#answer")).to_be_focused()
    visit.close(refusals=5)


def a_file_comes_back_annotated(browser):
    visit = Visit(browser).open().sign_in(TOKEN)
    page = visit.page
    page.check("#way-file")
    visit.each_look("a file to annotate")
    page.set_input_files("#file", GIVEN["vcf"])
    page.click("#annotate")
    expect(page.locator(".batch h2, .fault h2")).to_have_text(visit.t("batch.done"))
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "batch.locus.vcf"
    text = open(download.value.path()).read()
    lines = text.splitlines()
    head = [line for line in lines if line.startswith("#")]
    records = [line.split("\t") for line in lines if not line.startswith("#")]
    given = [line for line in open(GIVEN["vcf"]).read().splitlines() if line and not line.startswith("#")]
    assert len(records) == len(given) and len(given) > 128, (len(records), len(given))
    assert len([line for line in head if line.startswith("##INFO=<ID=LOCUS_")]) == 11 and head[-1].startswith("#CHROM")
    for before, after in zip(given, records):
        assert before.split("\t")[:5] == after[:5], (before, after)
    told = {record[2]: record[7] for record in records}
    assert "LOCUS_BAND=uncertain" in told["one"] and "LOCUS_P=0." in told["one"] and "LOCUS_MODEL=variant-effect@" in told["one"]
    assert told["one"].startswith("DP=7;") and "LOCUS_HGVSC=t1:c." in told["one"] and "LOCUS_RECEIPT=" in told["one"]
    assert "LOCUS_FAULT=.,ref_equals_alt" in told["two"] or told["two"].count(",") >= 1, told["two"]
    assert "LOCUS_FAULT=ref_mismatch" in told["wrong"], told["wrong"]
    assert "LOCUS_FAULT=bad_mutation" in told["symbol"], told["symbol"]
    assert "LOCUS_NOTE=" in told["indel"], told["indel"]
    rows = dict(zip(page.locator(".counts th").all_inner_texts(), page.locator(".counts td").all_inner_texts()))
    assert visit.t("fault.ref_mismatch") in rows, rows
    visit.each_look("an annotated file")
    page.set_input_files("#file", GIVEN["long"])
    page.click("#annotate")
    visit.until("document.querySelector('progress') && document.querySelector('progress').value > 0")
    page.click("#cancel")
    expect(page.locator(".batch h2")).to_have_text(visit.t("batch.cancelled"))
    expect(page.locator(".batch")).to_contain_text(visit.t("batch.partial"))
    page.set_input_files("#file", GIVEN["no_vcf"])
    page.click("#annotate")
    expect(page.locator(".fault h2")).to_have_text(visit.t("batch.failed"))
    visit.each_look("a file that cannot be read")
    visit.close(refusals=1)


def a_record_is_printed_on_one_page(browser):
    visit = Visit(browser).open().sign_in(TOKEN)
    page = visit.page
    page.fill("#field-subject", "S-0042")
    outcome = visit.ask(VARIANTS["pathogenic"])
    for language in ("en", "zh"):
        page.emulate_media(media="print")
        for hidden in ("form", ".ways", ".orders button", "#language"):
            expect(page.locator(hidden).first).to_be_hidden()
        record = outcome.locator(".record")
        for text in ("S-0042", "ward-page", "box-1", "variant-effect"):
            expect(record).to_contain_text(text)
        digest = record.locator("code").first.inner_text()
        assert len(digest) == 64, digest
        pdf = page.pdf(format="A4", print_background=True)
        pages = pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") + pdf.count(b"/Type /Page/") + pdf.count(b"/Type /Page>")
        assert pages == 1, f"{pages} pages in {language}"
        page.emulate_media(media="screen")
        visit.turn()
    visit.close(refusals=0)


def a_keyboard_is_enough(browser):
    visit = Visit(browser).open()
    page, keys = visit.page, visit.page.keyboard

    def tab_to(selector, most=30):
        for _ in range(most):
            keys.press("Tab")
            if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", f"{selector} is focused and does not show it"
                return
        raise AssertionError(f"no way to {selector} by keyboard")

    tab_to(".skip")
    expect(page.locator(".skip")).to_be_in_viewport()
    keys.press("Enter")
    tab_to("#token")
    keys.type(TOKEN)
    keys.press("Enter")
    page.wait_for_selector("body[data-mode=in]")
    tab_to("#field-variant")
    keys.type(VARIANTS["uncertain"])
    tab_to("#assembly")
    tab_to("#ask")
    keys.press("Enter")
    visit.outcome()
    expect(page.locator("#answer")).to_be_focused()
    tab_to(".as-table summary")
    keys.press("Enter")
    expect(page.locator(".as-table table")).to_be_visible()
    tab_to(".answer .orders button")
    tab_to("#language", most=60)
    keys.press("Enter")
    visit.until("document.documentElement.lang === 'zh-CN'")
    expect(page.locator("#language")).to_be_focused()
    expect(page.locator(".verdict")).to_have_text(said("verdict.uncertain", "zh"))
    tab_to("#way-variant")
    keys.press("ArrowDown")
    expect(page.locator("#field-sequence")).to_be_visible()
    expect(page.locator("#way-sequence")).to_be_focused()
    visit.language = "zh"
    visit.close(refusals=0)


def the_browsers_language_is_spoken(browser):
    visit = Visit(browser, language="zh").open()
    expect(visit.page.locator("h1")).to_have_text(said("sign_in", "zh"))
    visit.sign_in(TOKEN)
    outcome = visit.ask(VARIANTS["pathogenic"])
    expect(outcome.locator(".verdict")).to_have_text(said("verdict.pathogenic", "zh"))
    text = outcome.inner_text()
    for word in ("致病", "转录本", "回执", "密码子"):
        assert word in text, word
    visit.turn()
    assert "lang=en" in visit.page.url
    visit.page.reload()
    visit.page.wait_for_selector("body[data-started]")
    expect(visit.page.locator("h1")).to_have_text(said("page.ask.long", "en"))
    visit.close(refusals=0)


def the_pages_say_what_they_may_load(browser):
    visit = Visit(browser).open()
    for path in ("/", "/operator", "/page/app.js", "/sw.js"):
        headers = visit.context.request.get(BASE + path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'") and "unsafe" not in policy
        for part in ("frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'"):
            assert part in policy, policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    data = visit.context.request.get(BASE + "/v1/session")
    assert data.headers["cache-control"] == "no-store" and data.json() == {"signed_in": False, "ready": True, "over": False}
    stranger = visit.context.request.post(BASE + "/predict", data="{}")
    assert stranger.status == 401 and stranger.headers["cache-control"] == "no-store"
    visit.close(refusals=0)


TESTS = [
    signs_in_and_out,
    every_kind_of_name_is_understood,
    answers_look_like_what_they_are,
    the_sequence_is_drawn_and_told,
    faults_say_what_to_do,
    a_file_comes_back_annotated,
    a_record_is_printed_on_one_page,
    a_keyboard_is_enough,
    the_browsers_language_is_spoken,
    the_pages_say_what_they_may_load,
]

if __name__ == "__main__":
    run(TESTS)
