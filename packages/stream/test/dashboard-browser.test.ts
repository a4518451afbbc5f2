import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TensorwireError } from "@tensorwire/core";
import type { BrowserContextOptions, Page } from "playwright-core";
import { afterEach, describe, expect, test } from "vitest";
import { createModelServer } from "../src/index.js";
import { hasChromium, openBrowser } from "./chromium.js";
import { CliProcess, makeSparseModel } from "./cli-process.js";
import { begin, end, observed } from "./dashboard-fixture.js";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** A page that has opened a URL. Whatever it complains of, and asks anybody else for, fails the test. */
async function opened(url: string, options: BrowserContextOptions = {}): Promise<Page> {
  const context = await (await openBrowser()).newContext(options);
  closers.push(() => context.close());
  const page = await context.newPage();
  const faults: string[] = [];
  const { host } = new URL(url);
  page.on("pageerror", ({ message }) => faults.push(message));
  page.on("request", (request) => new URL(request.url()).host !== host && faults.push(request.url()));
  page.on("console", (message) => {
    // Of a connection that is lost the browser tells by itself.
    if (message.type() === "error" && !message.text().includes("net::ERR_")) faults.push(message.text());
  });
  closers.push(() => expect(faults).toEqual([]));
  await page.goto(url);
  await page.getByText("Live", { exact: true }).waitFor();
  return page;
}

const rows = (page: Page) => page.locator("#history-rows tr");

describe.runIf(hasChromium)("in a browser", () => {
  test("a transfer is seen while it moves, and then in the history; one that fails with its code; and a server that comes back", async () => {
    const folder = await mkdtemp(join(tmpdir(), "tensorwire-dashboard-"));
    closers.push(() => rm(folder, { recursive: true }));
    await mkdir(join(folder, "models"));
    await makeSparseModel(join(folder, "models/llama.safetensors"), 32 * 1024 ** 2);
    const started = async (where: string): Promise<CliProcess> => {
      const server = new CliProcess(["serve", join(folder, "models"), "--dashboard", "--listen", where]);
      closers.push(() => server.child.kill("SIGKILL"));
      await server.url();
      return server;
    };
    const server = await started("127.0.0.1:0");
    const models = await server.url();
    const [, url] = await server.saw(/dashboard at (\S+)\n/);
    const page = await opened(url!);
    const receiving = (name: string, rate: string): CliProcess => {
      const flags = [
        "--out",
        join(folder, name),
        "--window",
        "1MiB",
        "--max-bytes-per-second",
        rate,
        "--retry",
        "0",
      ];
      return new CliProcess(["receive", `${models}llama.safetensors`, ...flags]);
    };
    const receiver = receiving("one", "24M");
    const bar = page.locator("#transfers progress");
    await bar.waitFor();
    const seen = new Set<number>();
    while (seen.size < 3) seen.add(await bar.evaluate((bar: { value?: number }) => Number(bar.value)));
    expect([...seen].sort((a, b) => a - b)).toEqual([...seen]);
    expect(await page.locator("#transfers .name").textContent()).toBe("llama.safetensors");
    expect(await page.locator("#transfers .details").first().textContent()).toMatch(
      /^to 127\.0\.0\.1:\d+ · websocket · none · [\d.]+ MiB of 32\.0 MiB · [\d.]+ .?i?B on the wire$/,
    );
    expect((await receiver.ended).code).toBe(0);
    await rows(page).first().waitFor();
    expect(await rows(page).locator("td").allInnerTexts()).toEqual([
      expect.stringContaining("llama.safetensors"),
      "done",
      "32.0 MiB",
      expect.stringMatching(/^32\.\d MiB$/),
      expect.stringMatching(/s$/),
      expect.stringMatching(/MiB\/s$/),
      expect.stringMatching(/^\d\d:\d\d:\d\d$/),
    ]);
    await page.getByText("Nothing is being transferred.").waitFor();

    const killed = receiving("two", "4M");
    await bar.waitFor();
    killed.child.kill("SIGKILL");
    const failed = rows(page).first().locator(".outcome.failed");
    await failed.waitFor();
    expect(await failed.textContent()).toBe("CHANNEL_CLOSED");
    expect(await page.locator("#count-failed").textContent()).toBe("1");
    expect(await page.locator("#count-done").textContent()).toBe("1");

    server.child.kill("SIGKILL");
    await server.ended;
    await page.getByText("Connection lost").waitFor();
    expect(await rows(page).count()).toBe(2);
    await started(new URL(models).host);
    await page.getByText("Live", { exact: true }).waitFor();
    // It is another server: what that one had is not its own.
    await page.getByText("Nothing has ended yet.").waitFor();
    expect(await rows(page).count()).toBe(0);
  }, 60_000);

  test("whatever a peer is called is a text, and stays in its place", async () => {
    const server = await createModelServer({ dashboard: true });
    closers.push(() => server.close());
    const evil =
      '<script>document.title="owned"</script><img src=x onerror="document.title=\'owned\'">\u202etxt.exe';
    const words = { served: { name: evil, principal: evil }, peer: evil };
    const [active, over] = [observed(words), observed(words)];
    for (const transfer of [active, over]) begin(transfer);
    end(over, new TensorwireError("PEER_FAILED", evil));
    const page = await opened(server.dashboardUrl!);
    await rows(page).first().waitFor();
    for (const place of ["#transfers .name", "#history-rows .name", "#history-rows .message"]) {
      expect(await page.locator(place).textContent(), place).toBe(evil);
    }
    expect(await page.locator("main script, main :not(h1) > img").count()).toBe(0);
    expect(await page.title()).toBe("1 transfer · Tensorwire");
    // Nothing is wider than the narrowest telephone, however long it is.
    const long = observed({ served: { name: "n".repeat(300), principal: undefined } });
    begin(long);
    closers.push(() => [active, long].map((transfer) => end(transfer)));
    await page.locator("#transfers li").nth(1).waitFor();
    for (const width of [320, 700, 1280]) {
      await page.setViewportSize({ width, height: 800 });
      const widest = await page.evaluate("document.documentElement.scrollWidth");
      expect(widest, `at ${width}`).toBeLessThanOrEqual(width);
    }
  });

  test("thousands of transfers leave a page of a bounded size, and one that is hidden asks for nothing", async () => {
    const server = await createModelServer({ dashboard: true });
    closers.push(() => server.close());
    const page = await opened(server.dashboardUrl!);
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 1000; i++) {
        const transfer = observed({ served: { name: `model-${round}-${i}`, principal: undefined } });
        begin(transfer);
        end(transfer);
      }
      await rows(page).first().getByText(`model-${round}-999`, { exact: true }).waitFor();
    }
    expect(await rows(page).count()).toBe(200);
    expect(await page.locator("#count-done").textContent()).toBe("3,000");
    const hide = (hidden: boolean) =>
      page.evaluate(
        `Object.defineProperty(document, "hidden", { value: ${hidden}, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));`,
      );
    await Promise.all([
      page.waitForEvent("requestfailed", { predicate: (request) => request.url().endsWith("/events") }),
      hide(true),
    ]);
    await Promise.all([page.waitForRequest((request) => request.url().endsWith("/events")), hide(false)]);
  });

  test("it asks for a token, is dark where that is wished, and can be read without seeing it", async () => {
    const authorize = (token: string | undefined) =>
      token === "hunter2" ? { name: "watcher", watch: true } : undefined;
    const server = await createModelServer({ dashboard: true, authorize });
    closers.push(() => server.close());
    const transfer = observed();
    begin(transfer);
    const httpCredentials = { username: "anybody", password: "hunter2" };
    const page = await opened(server.dashboardUrl!, { httpCredentials });
    await page.getByRole("progressbar", { name: "llama: 40 %" }).waitFor();
    expect(await page.getByRole("heading").allInnerTexts()).toEqual([
      "Tensorwire",
      "Rates",
      "Memory",
      "Under way",
      "History",
    ]);
    expect(await page.getByRole("status").first().innerText()).toBe("Live");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    expect(await page.evaluate("document.activeElement.id")).toBe("transfers");
    end(transfer);
    await page.getByRole("cell", { name: "done" }).waitFor();
    expect(await page.locator("#announcement").textContent()).toBe("llama: done");
    const ground = () => page.evaluate("getComputedStyle(document.body).backgroundColor");
    const light = await ground();
    await page.emulateMedia({ colorScheme: "dark" });
    expect(await ground()).not.toBe(light);
  });
});
