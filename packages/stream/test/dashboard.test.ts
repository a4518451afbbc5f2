import { EventEmitter } from "node:events";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import { channel } from "node:diagnostics_channel";
import type { AddressInfo } from "node:net";
import { TensorwireError } from "@tensorwire/core";
import { afterEach, describe, expect, test, vi } from "vitest";
import { MAX_LISTED, type Snapshot, type Told } from "../src/dashboard/snapshot.js";
import { MAX_HISTORY } from "../src/dashboard/state.js";
import { INTERVAL_MS, MAX_VIEWERS, Viewers } from "../src/dashboard/viewers.js";
import { createModelServer, type ModelServer, type ModelServerOptions, receiveModel } from "../src/index.js";
import { begin, end, observed, told } from "./dashboard-fixture.js";
import { fetching, hasFolder, model, serving } from "./model-server-fixture.js";

hasFolder();
afterEach(() => void vi.useRealTimers());

const shown = (options: ModelServerOptions = {}): Promise<ModelServer> =>
  serving({ dashboard: true, ...options });

const basic = (token: string) => ({ authorization: `Basic ${btoa(`anybody:${token}`)}` });

/** The status of a request as a browser that was led astray makes it. */
function status(url: string, headers: Record<string, string>): Promise<number> {
  return new Promise((resolve, reject) => {
    request(url, { headers }, (response) => resolve(response.resume().statusCode!))
      .on("error", reject)
      .end();
  });
}

async function first(url: string, headers?: Record<string, string>): Promise<Snapshot> {
  for await (const snapshot of told(url, headers)) return snapshot;
  throw new Error("nothing was told");
}

describe("the dashboard", () => {
  test("is there where it is asked for, at its path, and everything of it from the server itself", async () => {
    expect((await serving()).dashboardUrl).toBeUndefined();
    const { dashboardUrl: url } = await shown();
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/dashboard\/$/);
    const page = await fetch(url!.slice(0, -1));
    expect([page.url, page.status, page.headers.get("content-type")]).toEqual([
      url,
      200,
      "text/html; charset=utf-8",
    ]);
    const html = await page.text();
    const parts = [...html.matchAll(/(?:src|href)="([^"#]+)"/g)].map(([, path]) => path!);
    expect(new Set(parts)).toEqual(new Set(["icon.svg", "page.css", "page.js"]));
    for (const part of parts) {
      const { status, headers } = await fetch(new URL(part, url));
      expect([status, headers.get("x-content-type-options")]).toEqual([200, "nosniff"]);
      expect(headers.get("content-security-policy")).toContain("default-src 'none'");
    }
    expect((await fetch(url!, { method: "POST" })).status).toBe(405);
    expect((await fetch(`${url}none.js`)).status).toBe(404);
    expect((await fetch(`${url}events`, { method: "HEAD" })).status).toBe(200);
    const { dashboardUrl } = await shown({ dashboard: "/admin/transfers/" });
    expect(new URL(dashboardUrl!).pathname).toBe("/admin/transfers/");
    expect((await fetch(dashboardUrl!)).status).toBe(200);
    for (const dashboard of ["transfers", "/", "/a//b", "/a?b"]) {
      await expect(createModelServer({ dashboard }), dashboard).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
      });
    }
  });

  test("is shown to principals that may watch, as browsers can show a token, and to no others", async () => {
    const authorize = (token: string | undefined) =>
      token === "watcher"
        ? { name: "w", watch: true }
        : token === "reader"
          ? { name: "r", fetch: true }
          : undefined;
    const { dashboardUrl: url } = await shown({ authorize });
    for (const path of ["", "events", "page.js"]) {
      const at = new URL(path, url);
      const refused = await fetch(at);
      expect([refused.status, refused.headers.get("www-authenticate")]).toEqual([
        401,
        'Basic realm="Tensorwire dashboard", charset="UTF-8"',
      ]);
      expect((await fetch(at, { headers: basic("wrong") })).status).toBe(401);
      expect((await fetch(at, { headers: basic("reader") })).status).toBe(403);
    }
    expect((await fetch(url!, { headers: basic("watcher") })).status).toBe(200);
    expect((await fetch(url!, { headers: { authorization: "Bearer watcher" } })).status).toBe(200);
    expect(await first(url!, basic("watcher"))).toMatchObject({ first: true });
    // A browser adds that password to whatever pages make it ask: it opens no model.
    const models = url!.replace("dashboard/", "models/a");
    expect((await fetch(models, { headers: basic("watcher") })).status).toBe(401);
  });

  test("is not shown to pages of other sites, nor under a name that somebody else gave this machine", async () => {
    const { dashboardUrl } = await shown();
    const { port } = new URL(dashboardUrl!);
    for (const path of ["", "events"]) {
      const url = dashboardUrl! + path;
      expect(await status(url, { origin: "https://evil.example" })).toBe(403);
      expect(await status(url, { host: `evil.example:${port}` })).toBe(403);
    }
    for (const host of ["localhost", "127.0.0.1", "[::1]"]) {
      expect(await status(dashboardUrl!, { host: `${host}:${port}` })).toBe(200);
    }
  });

  test("mounted on a web server, it leaves the others' pages alone, and shows nothing to who comes through a proxy", async () => {
    const web = createServer((_request, response) => void response.end("mine"));
    const server = await shown({ server: web });
    await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(web.address() as AddressInfo).port}`;
    expect(server.dashboardUrl).toBe(`${url}/dashboard/`);
    expect((await fetch(server.dashboardUrl!)).status).toBe(200);
    expect(await (await fetch(`${url}/dashboards`)).text()).toBe("mine");
    expect((await fetch(server.dashboardUrl!, { headers: { "x-forwarded-for": "192.0.2.1" } })).status).toBe(
      401,
    );
    await server.close();
    expect(await (await fetch(`${url}/dashboard/`)).text()).toBe("mine");
    web.closeAllConnections();
    web.close();
  });

  test("tells of a transfer by the name that its peer asked for, with whom, as what, and how far it is", async () => {
    const authorize = (token: string | undefined) =>
      token === undefined ? undefined : { name: token, fetch: true, watch: true };
    const server = await shown({ authorize });
    server.publish("a/b", model(), { codec: "float16", minElements: 1 });
    const { done, release } = await fetching(server.urlOf("a/b"), "site-1");
    const open = told(server.dashboardUrl!, basic("w"));
    const ours = ({ active }: Snapshot) => active.find(({ name }) => name === "a/b");
    let snapshot = (await open.next()).value as Snapshot;
    while (ours(snapshot)?.sourceBytes !== 4000) snapshot = (await open.next()).value;
    expect(ours(snapshot)).toMatchObject({
      way: "out",
      principal: "site-1",
      peer: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
      channel: "websocket",
      codecs: ["float16"],
      totalBytes: 4000,
    });
    expect(snapshot.memory.budgets.map(({ of }) => of)).toEqual(["send", "receive"]);
    expect(snapshot.memory.budgets[0]!.reserved).toBeGreaterThan(0);
    release();
    await done;
    const ended = [...snapshot.ended];
    while (!ended.some(({ name }) => name === "a/b"))
      ended.push(...((await open.next()).value as Snapshot).ended);
    const [entry] = ended.filter(({ name }) => name === "a/b");
    expect([entry!.code, entry!.sourceBytes]).toEqual([undefined, 4000]);
    expect(entry!.wireBytes).toBeGreaterThan(2000);
    await expect(receiveModel(server.urlOf("none"), { dial: { token: "site-1" } }).done).rejects.toThrow();
    expect((await first(server.dashboardUrl!, basic("w"))).refused).toBe(1);
    await open.return(undefined);
  });

  test("hears of no chunk, and nothing at all when the server is closed", async () => {
    const names = ["start", "retry", "end", "chunk", "checkpoint"].map(
      (name) => `tensorwire:transfer:${name}`,
    );
    const heard = () => names.filter((name) => channel(name).hasSubscribers);
    expect(heard()).toEqual([]);
    const server = await shown();
    const open = told(server.dashboardUrl!);
    await open.next();
    expect(heard()).toEqual(names.slice(0, 3));
    await server.close();
    expect(heard()).toEqual([]);
    // The page that was open is let go: it does not keep the process.
    for await (const _ of open);
  });

  test("keeps the last transfers of thousands, and lists a bounded number of those under way", async () => {
    const { dashboardUrl } = await shown();
    const long = "n".repeat(5000);
    for (let i = 0; i < 5000; i++) {
      const transfer = observed({ served: { name: long, principal: long }, peer: long });
      begin(transfer);
      if (i % 10 < 9) end(transfer, i % 2 ? new TensorwireError("PEER_FAILED", long) : undefined);
    }
    const snapshot = await first(dashboardUrl!);
    expect(snapshot).toMatchObject({ done: 2500, failed: 2000, more: 500 - MAX_LISTED });
    expect([snapshot.active.length, snapshot.ended.length]).toEqual([MAX_LISTED, MAX_HISTORY]);
    expect(JSON.stringify(snapshot).length).toBeLessThan(512 * 1024);
  });

  test("shows one transfer of two ends that are both in this process", async () => {
    const { dashboardUrl } = await shown();
    const [sending, receiving] = (["send", "receive"] as const).map((role) =>
      observed({ role, channel: "memory", served: undefined, peer: undefined }),
    );
    begin(sending!);
    begin(receiving!);
    expect((await first(dashboardUrl!)).active.map(({ way, id }) => [way, id])).toEqual([
      ["within", receiving!.id],
    ]);
    end(sending!);
    end(receiving!);
    expect((await first(dashboardUrl!)).ended.map(({ way }) => way)).toEqual(["within"]);
  });

  test("credentials in an error's words are not shown", async () => {
    const { dashboardUrl } = await shown();
    const transfer = observed();
    begin(transfer);
    end(
      transfer,
      new TensorwireError("CHANNEL_OPEN", "https://user:hunter2@host/x?token=hunter2 does not answer"),
    );
    const { ended } = await first(dashboardUrl!);
    expect(ended[0]!.message).toBe("https://…@host/x?… does not answer");
  });
});

describe("pages that are open", () => {
  /** A response that takes things until it is told to stop. */
  class Taking extends EventEmitter {
    readonly said: Snapshot[] = [];
    writableNeedDrain = false;
    destroyed = false;
    writeHead(): void {}
    write(text: string): void {
      if (text.startsWith("data: ")) this.said.push(JSON.parse(text.slice("data: ".length)));
    }
    end(): void {
      this.emit("close");
    }
    destroy(): void {
      this.destroyed = true;
      this.emit("close");
    }
  }
  const socket = { setKeepAlive: () => {} };
  let looks = 0;
  const view = {
    look: () => ++looks,
    snapshot: (at: number, told: Told) => ({ at, first: told.sequence < 0, done: at, failed: 0 }) as Snapshot,
  };
  const adding = (viewers: Viewers): Taking => {
    const response = new Taking();
    viewers.add({ socket } as unknown as IncomingMessage, response as unknown as ServerResponse);
    return response;
  };

  test("nobody looks where none is; all see the same look, twice a second", () => {
    vi.useFakeTimers();
    looks = 0;
    const viewers = new Viewers(view);
    vi.advanceTimersByTime(60_000);
    expect([looks, vi.getTimerCount()]).toEqual([0, 0]);
    const [one, two] = [adding(viewers), adding(viewers)];
    vi.advanceTimersByTime(10 * INTERVAL_MS);
    expect([looks, one.said.length, two.said.length]).toEqual([12, 11, 11]);
    one.end();
    vi.advanceTimersByTime(INTERVAL_MS);
    expect([looks, one.said.length, two.said.length]).toEqual([13, 11, 12]);
    two.end();
    vi.advanceTimersByTime(60_000);
    expect([looks, vi.getTimerCount(), viewers.size]).toEqual([13, 0, 0]);
  });

  test("one that takes nothing is not written to, is told what it missed later, and is let go in the end", () => {
    vi.useFakeTimers();
    const viewers = new Viewers(view);
    const page = adding(viewers);
    page.writableNeedDrain = true;
    vi.advanceTimersByTime(20 * INTERVAL_MS);
    expect(page.said).toHaveLength(1);
    page.writableNeedDrain = false;
    vi.advanceTimersByTime(INTERVAL_MS);
    expect(page.said).toHaveLength(2);
    page.writableNeedDrain = true;
    vi.advanceTimersByTime(120 * INTERVAL_MS);
    expect([page.destroyed, page.said.length, viewers.size]).toEqual([true, 2, 0]);
  });

  test("no more than so many are told at once", () => {
    const viewers = new Viewers(view);
    for (let i = 0; i < MAX_VIEWERS; i++) adding(viewers);
    expect(() => adding(viewers)).toThrow(expect.objectContaining({ code: "SERVER_BUSY" }));
    viewers.close();
    expect(viewers.size).toBe(0);
    adding(viewers);
    viewers.close();
  });
});
