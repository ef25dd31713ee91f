#!/usr/bin/env python3
"""Uses the page in headless Chromium as a person would: asks, breaks the tools, corrects an answer, finetunes a tiny model,
downloads an export. Writes the screenshots of docs/SERVE.md.

    apt-get install chromium && python3 -m venv env && env/bin/pip install playwright
    needle playground quickstart --port 8080 --workspace $(mktemp -d) &
    env/bin/python scripts/check_playground.py --url http://127.0.0.1:8080 --data mine.jsonl --screenshots docs/images
"""

import argparse
import pathlib
import tempfile

from playwright.sync_api import expect, sync_playwright


def said(what):
    print(f"ok  {what}", flush=True)


def check(page, url, data, screenshots):
    def shoot(name):
        if screenshots:
            page.evaluate("scrollTo(0, 0)")
            page.screenshot(path=screenshots / f"playground-{name}.png")

    problems, foreign = [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if "Content Security" in message.text else None)
    page.on("request", lambda request: None if request.url.startswith((url, "blob:")) else foreign.append(request.url))
    page.goto(url)

    page.get_by_label("Query").fill("set a timer for 12 minutes")
    page.get_by_label("has to call").check()
    page.keyboard.press("Tab")
    page.get_by_label("Query").press("Enter")
    expect(page.locator("#verdict")).to_contain_text("tokens read")
    assert page.locator("#pieces .piece").count() > 3
    said(f"an answer, token by token: {page.locator('#pieces').inner_text()}")
    page.get_by_role("button", name="Rank the tools").click()
    expect(page.locator("#ranking tbody tr")).to_have_count(2)
    said("a ranking")
    shoot("try")

    page.get_by_text("Correct this").click()
    page.get_by_label("Correct calls").fill('[{"name": "set_timer", "arguments": {"minutes": 12}}]')
    page.get_by_role("button", name="Add example").click()
    expect(page.locator("#message")).to_contain_text("Added")
    said("a correction becomes an example")

    tools = page.get_by_label("Tools, as JSON")
    whole = tools.input_value()
    tools.fill(whole[:-1])
    expect(page.locator("#tools-problem")).to_contain_text("not JSON")
    tools.fill('[{"name": "a", "parameters": {"x": {"type": 7}}}]')
    expect(page.locator("#tools-problem")).to_contain_text("tools[0]")
    said(f"broken tools: {page.locator('#tools-problem').inner_text()}")
    tools.fill(whole)
    expect(page.locator("#tools-problem")).to_be_empty()

    page.get_by_role("tab", name="Try").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Data")).to_be_focused()
    page.get_by_label("Upload a .jsonl file").set_input_files(data)
    expect(page.locator("#message")).to_contain_text("Uploaded")
    expect(page.locator("#data-summary")).to_contain_text("30 examples, 0 with problems")
    said("data by keyboard and upload")
    shoot("data")
    page.locator("#lines button").first.click()
    page.locator("#lines textarea").fill("{}")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#message")).to_contain_text("query")
    said(f"an invalid line is refused: {page.locator('#message').inner_text()}")

    page.get_by_role("tab", name="Finetune").click()
    page.locator("#start-data").select_option(data.stem)
    page.locator("#start-base").select_option(index=0)
    page.get_by_label("Minutes").fill("2")
    page.get_by_role("button", name="Finetune", exact=True).click()
    expect(page.locator("#run-status")).to_have_text("running")
    expect(page.locator("#loss polyline").first).to_be_attached(timeout=300_000)
    said("a loss curve during training")
    page.get_by_role("button", name="Stop and save").click()
    expect(page.locator("#run-status")).to_have_text("stopped", timeout=300_000)
    page.get_by_role("button", name="Resume").click()
    said("stopped, saved and resumed")
    expect(page.locator("#run-status")).to_have_text("finished", timeout=600_000)
    expect(page.locator("#before-after")).to_be_visible()
    said("finished, with a comparison")
    shoot("finetune")
    page.get_by_role("button", name="Try the result").click()
    expect(page.locator("#try-model")).to_have_value("mine")

    page.get_by_role("tab", name="Ship").click()
    page.get_by_role("button", name="Export and verify").click()
    expect(page.locator("#exports")).to_contain_text("Verified", timeout=120_000)
    with page.expect_download() as download:
        page.get_by_role("button", name="needle.safetensors").first.click()
    assert pathlib.Path(download.value.path()).stat().st_size > 1000
    said("an export, verified and downloaded")
    shoot("ship")

    page.set_viewport_size({"width": 360, "height": 740})
    for tab in ["Try", "Data", "Finetune", "Ship"]:
        page.get_by_role("tab", name=tab).click()
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 360, (tab, width)
    said("readable on a phone")
    page.reload()
    page.get_by_role("tab", name="Finetune").click()
    expect(page.locator("#before-after")).to_be_visible()
    said("still there after a reload")
    assert not problems and not foreign, (problems, foreign)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="30 examples")
    parser.add_argument("--screenshots", type=pathlib.Path)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    arguments = parser.parse_args()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        options = dict(executable_path=arguments.chromium, args=["--no-sandbox"], color_scheme="light")
        options |= dict(viewport={"width": 900, "height": 700}, accept_downloads=True)
        browser = playwright.chromium.launch_persistent_context(profile, **options)
        page = browser.pages[0]
        page.set_default_timeout(30_000)
        check(page, arguments.url, arguments.data, arguments.screenshots)
        browser.close()
    print("all checks of the page passed")


if __name__ == "__main__":
    main()
