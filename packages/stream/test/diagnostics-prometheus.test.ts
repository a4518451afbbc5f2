import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FrameType } from "@tensorwire/core";
import { beforeEach, describe, expect, test } from "vitest";
import { publish } from "../src/diagnostics/events.js";
import { metricsHandler } from "../src/diagnostics/prometheus.js";
import { createModelServer, memoryChannelPair, receiveModel, streamModel } from "../src/index.js";
import { BYTES, CHUNKS, closers, discarding, model, small, transfer } from "./diagnostics-fixture.js";
import { ScriptedPeer } from "./scripted-peer.js";

describe("the Prometheus endpoint", () => {
  let server: Server;
  let handler: ReturnType<typeof metricsHandler>;
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "tensorwire-metrics-"));
    handler = metricsHandler();
    server = createServer(handler).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    closers.push(
      () => rm(folder, { recursive: true }),
      () => handler.stop(),
      () => server.close(),
    );
  });
  const scrape = async (): Promise<string> => {
    const response = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`);
    expect(response.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
    return response.text();
  };

  test("counts what moved, in base units, at either end", async () => {
    const { wireBytes } = await transfer();
    await streamModel(model, "ws://127.0.0.1:1").catch(() => {});
    const text = await scrape();
    for (const role of ["send", "receive"]) {
      expect(text).toContain(`tensorwire_transfers_total{role="${role}",outcome="OK"} 1\n`);
      expect(text).toContain(`tensorwire_source_bytes_total{role="${role}"} ${BYTES}\n`);
      expect(text).toContain(`tensorwire_chunks_total{role="${role}"} ${CHUNKS}\n`);
      expect(text).toContain(`tensorwire_transfers_active{role="${role}"} 0\n`);
      expect(text).toContain(`tensorwire_in_flight_bytes{role="${role}"} 0\n`);
    }
    expect(text).toContain('tensorwire_transfers_total{role="send",outcome="CHANNEL_OPEN"} 1\n');
    expect(text).toContain("tensorwire_connections_total 2\n");
    expect(text).toContain("tensorwire_connections_open 0\n");
    const moved = Number(/^tensorwire_wire_bytes_total\{role="send"\} (\d+)$/m.exec(text)![1]);
    expect(moved).toBeGreaterThanOrEqual(BYTES);
    expect(moved).toBeLessThanOrEqual(wireBytes);
  });

  test("shows what waits, while it waits", async () => {
    const [a, b] = memoryChannelPair();
    let go!: () => void;
    const stopped = new Promise<void>((resolve) => {
      go = resolve;
    });
    const { done } = receiveModel(b, { ...small, to: { ...discarding, write: () => stopped } });
    const sending = streamModel(model, a, small);
    const value = async (name: string, role: string): Promise<number> =>
      Number(new RegExp(`^${name}\\{role="${role}"\\} (\\d+)$`, "m").exec(await scrape())![1]);
    while ((await value("tensorwire_queued_bytes", "receive")) < 65_536) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(await value("tensorwire_in_flight_bytes", "send")).toBe(65_536);
    expect(await value("tensorwire_transfers_active", "send")).toBe(1);
    go();
    await sending;
    await done;
    expect(await value("tensorwire_queued_bytes", "receive")).toBe(0);
    expect(await value("tensorwire_transfers_active", "send")).toBe(0);
  });

  test("labels are bounded: a peer's words are in none", async () => {
    const evil = 'evil"} 1\ninjected_total{x="';
    const [a, b] = memoryChannelPair();
    const peer = new ScriptedPeer(b);
    const sending = streamModel(model, a, small);
    sending.catch(() => {});
    await peer.hello("any", { software: evil });
    await peer.hears(FrameType.MANIFEST);
    const words = JSON.stringify({ code: evil.slice(0, 60), message: evil });
    await peer.say(FrameType.ERROR, words, { flags: 1 });
    await expect(sending).rejects.toMatchObject({ code: "PEER_FAILED" });
    publish("tensorwire:server:refuse", () => ({
      server: {},
      code: "UNAUTHORIZED",
      reason: evil,
      peer: evil,
    }));
    const text = await scrape();
    expect(text).not.toContain("evil");
    expect(text).toContain('tensorwire_transfers_total{role="send",outcome="PEER_FAILED"} 1\n');
    expect(text).toContain('tensorwire_refusals_total{code="UNAUTHORIZED"} 1\n');
  });

  test("is there on a server that is asked for it, for whoever is let in", async () => {
    const token = { authorization: "Bearer hunter2" };
    const pages = async (metrics: boolean | string | undefined, path: string, headers = {}) => {
      const authorize = (credential: string | undefined) =>
        credential === "hunter2" ? { name: "prometheus" } : undefined;
      const server = await createModelServer({ port: 0, metrics, authorize });
      closers.push(() => server.close());
      const response = await fetch(new URL(path, server.url.replace(/^ws/, "http")), { headers });
      return [response.status, (await response.text()).split("\n")[0]];
    };
    const first = "# HELP tensorwire_transfers_total Transfers that ended, by OK or an error's code";
    expect(await pages(true, "/metrics", token)).toEqual([200, first]);
    expect(await pages("/numbers", "/numbers", token)).toEqual([200, first]);
    expect(await pages(true, "/metrics")).toEqual([401, "a credential is needed here"]);
    expect((await pages(undefined, "/metrics", token))[0]).toBe(404);
    await expect(createModelServer({ port: 0, metrics: "numbers" })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
  });

  test("takes GET and HEAD, and nothing else", async () => {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    expect((await fetch(url, { method: "POST" })).status).toBe(405);
    const head = await fetch(url, { method: "HEAD" });
    expect([head.status, await head.text()]).toEqual([200, ""]);
  });
});
