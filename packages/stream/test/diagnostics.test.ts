import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FrameType, TensorwireError } from "@tensorwire/core";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { EVENT_NAMES, type EventName, type Events, listenTo, publish } from "../src/diagnostics/events.js";
import { logTo } from "../src/diagnostics/logger.js";
import { metricsHandler } from "../src/diagnostics/prometheus.js";
import { TransferTrace } from "../src/diagnostics/transfer-trace.js";
import {
  createModelServer,
  type Listener,
  type Logger,
  listen,
  memoryChannelPair,
  receiveModel,
  streamModel,
  type TensorMap,
  type TransferSummary,
} from "../src/index.js";
import { FaultyLine } from "./faulty-line.js";
import { ScriptedPeer } from "./scripted-peer.js";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const small = { chunkBytes: 32768, windowBytes: 65536 };
const SECRET = 1234.5;
const model: TensorMap = {
  w: { dtype: "F32", shape: [40_000], data: new Float32Array(40_000).fill(SECRET) },
  b: { dtype: "F32", shape: [4], data: new Float32Array(4) },
};
const BYTES = 160_016;
const CHUNKS = 6;

async function listening(): Promise<Listener> {
  const listener = await listen();
  closers.push(() => listener.close());
  return listener;
}

const discarding = {
  name: "nowhere",
  parallel: false,
  open: async () => {},
  write: () => undefined,
  finish: async () => {},
  abort: async () => {},
};

async function transfer(options: { logger?: Logger } = {}): Promise<TransferSummary> {
  const listener = await listening();
  const { done } = receiveModel(listener, { ...small, to: discarding });
  const summary = await streamModel(model, listener.url, { ...small, ...options });
  await done;
  return summary;
}

type Heard = { [Name in EventName]: { name: Name; message: Events[Name] } }[EventName];

/** Everything that is published meanwhile. */
function hearing(): Heard[] {
  const heard: Heard[] = [];
  const listeners = EVENT_NAMES.map((name) => [
    name,
    (message: unknown) => heard.push({ name, message } as Heard),
  ]);
  closers.push(listenTo(Object.fromEntries(listeners)));
  return heard;
}

describe("events have stable names, and say what happens", () => {
  test("of a transfer, from the call to its end, at both ends", async () => {
    const heard = hearing();
    const summary = await transfer();
    for (const role of ["send", "receive"]) {
      const own = heard.filter(({ message }) => "transfer" in message && message.transfer.role === role);
      expect(own.map(({ name }) => name.split(":").at(-1))).toEqual([
        "start",
        ...Array.from({ length: CHUNKS }, () => "chunk"),
        "end",
      ]);
      const transfers = new Set(
        own.map(({ message }) => ("transfer" in message ? message.transfer : undefined)),
      );
      expect(transfers.size).toBe(1);
      const [observed] = transfers;
      expect(observed).toMatchObject({ role, channel: "websocket", inFlightBytes: 0, queuedBytes: 0 });
      expect(observed!.manifest!.tensors.map(({ name }) => name)).toEqual(["w", "b"]);
      const chunks = own.flatMap(({ name, message }) =>
        name === "tensorwire:transfer:chunk" ? [message] : [],
      );
      expect(chunks.map((message) => ("ordinal" in message ? message.ordinal : -1))).toEqual([
        0, 1, 2, 3, 4, 5,
      ]);
      expect(own.at(-1)!.message).toMatchObject({
        role,
        error: undefined,
        loans: 0,
        summary: { digest: summary.digest, sourceBytes: BYTES, chunks: CHUNKS },
      });
    }
  });

  test("of a transfer that is interrupted: one call, however many attempts it takes", async () => {
    const heard = hearing();
    const [logger, lines] = collecting();
    const listener = await listening();
    const line = await FaultyLine.to(listener.url);
    closers.push(() => line.close());
    const large: TensorMap = { w: { dtype: "U8", shape: [40 * 32768], data: new Uint8Array(40 * 32768) } };
    const slow = { ...discarding, write: () => new Promise<void>((resolve) => setTimeout(resolve, 3)) };
    const { done } = receiveModel(listener, { ...small, retry: true, to: slow });
    let cut = false;
    const summary = await streamModel(large, `ws://127.0.0.1:${line.port}`, {
      ...small,
      logger,
      retry: { initialDelayMs: 1 },
      onProgress: ({ acknowledgedBytes, totalBytes }) => {
        if (cut || acknowledgedBytes < totalBytes / 4) return;
        cut = true;
        line.cut();
      },
    });
    await done;
    for (const role of ["send", "receive"]) {
      const own = heard.filter(({ message }) => "transfer" in message && message.transfer.role === role);
      expect(new Set(own.map(({ message }) => "transfer" in message && message.transfer)).size).toBe(1);
      const names = own.map(({ name }) => name.split(":").at(-1));
      expect(names.filter((name) => name !== "chunk")).toEqual(["start", "retry", "resume", "end"]);
      const retry = own.find(({ name }) => name === "tensorwire:transfer:retry")!.message;
      expect(retry).toMatchObject({ attempt: 1, error: { code: "CHANNEL_CLOSED" } });
      expect(own.at(-1)!.message).toMatchObject({ error: undefined, loans: 0 });
    }
    expect(summary.confirmed).toBe(true);
    expect(lines.map(({ level }) => level)).toEqual(["debug", "warn", "info", "info"]);
  });

  test("of checkpoints, at both ends, where the sink keeps a journal", async () => {
    const heard = hearing();
    const folder = await mkdtemp(join(tmpdir(), "tensorwire-checkpoints-"));
    closers.push(() => rm(folder, { recursive: true }));
    const listener = await listening();
    const large: TensorMap = { w: { dtype: "U8", shape: [40 * 32768], data: new Uint8Array(40 * 32768) } };
    const { done } = receiveModel(listener, { ...small, to: join(folder, "model.safetensors") });
    await streamModel(large, listener.url, small);
    await done;
    for (const role of ["send", "receive"]) {
      const positions = heard.flatMap(({ name, message }) =>
        name === "tensorwire:transfer:checkpoint" && message.transfer.role === role
          ? [message.durableBytes]
          : [],
      );
      expect(positions.length).toBeGreaterThan(3);
      expect(positions).toEqual([...positions].sort((a, b) => a - b));
      expect(positions.at(-1)).toBeLessThanOrEqual(40 * 32768);
    }
  });

  test("of a transfer that fails, also where it never began", async () => {
    const heard = hearing();
    await expect(streamModel(model, "nonsense:")).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(heard.map(({ name }) => name)).toEqual(["tensorwire:transfer:start", "tensorwire:transfer:end"]);
    expect(heard[1]!.message).toMatchObject({
      error: { code: "INVALID_ARGUMENT" },
      summary: undefined,
      loans: 0,
    });
  });

  test("of connections: one that this side was done with, and one that the peer broke", async () => {
    const heard = hearing();
    await transfer();
    const [a, b] = memoryChannelPair();
    const sending = streamModel(model, a);
    await new ScriptedPeer(b).raw(Buffer.from("GET / HTTP/1.1\r\n\r\n"));
    await expect(sending).rejects.toMatchObject({ code: "PROTOCOL" });
    const opened = heard.flatMap(({ name, message }) =>
      name === "tensorwire:connection:open" ? [(message as Events[typeof name]).connection] : [],
    );
    const closed = heard.flatMap(({ name, message }) =>
      name === "tensorwire:connection:close" ? [message as Events[typeof name]] : [],
    );
    expect(opened.map(({ channel }) => channel)).toEqual(["websocket", "websocket", "memory"]);
    for (const connection of opened) {
      expect(closed.filter((message) => message.connection === connection).length).toBe(1);
    }
    expect(closed.find(({ connection }) => connection.channel === "memory")!.error).toMatchObject({
      code: "PROTOCOL",
    });
    expect(closed.some(({ error }) => error === undefined)).toBe(true);
  });

  test("nobody listens: nothing is made", () => {
    publish("tensorwire:transfer:chunk", () => expect.unreachable("a message that nobody hears"));
  });

  test("a listener that throws ends nothing but its own", async () => {
    const warnings: string[] = [];
    const onWarning = ({ message }: Error): void => void warnings.push(message);
    process.on("warning", onWarning);
    closers.push(() => process.off("warning", onWarning));
    closers.push(
      listenTo({
        "tensorwire:transfer:start": () => {
          throw new Error("the disk of the logs is full");
        },
      }),
    );
    await expect(transfer()).resolves.toMatchObject({ confirmed: true });
    await new Promise((resolve) => setImmediate(resolve));
    expect(warnings).toContain("what watches transfers failed: Error: the disk of the logs is full");
  });
});

type Line = { level: string; details: Record<string, unknown>; message: string };

function collecting(): [Logger, Line[]] {
  const lines: Line[] = [];
  const level = (level: string) => (details: object, message: string) =>
    void lines.push({ level, details: details as Record<string, unknown>, message });
  return [{ debug: level("debug"), info: level("info"), warn: level("warn"), error: level("error") }, lines];
}

describe("logs go where they are asked to go", () => {
  test("a logger of one call sees that call's transfer, and no other", async () => {
    const [mine, lines] = collecting();
    const [other, others] = collecting();
    const [summary] = await Promise.all([
      transfer({ logger: mine }),
      transfer({ logger: other }),
      transfer(),
    ]);
    for (const each of [lines, others]) {
      expect(each.map(({ level, message }) => [level, message])).toEqual([
        ["debug", "the transfer begins"],
        ["info", "the transfer is done"],
      ]);
      expect(new Set(each.map(({ details }) => details.transfer)).size).toBe(1);
    }
    expect(lines[1]!.details).toMatchObject({ role: "send", sourceBytes: BYTES, digest: summary.digest });
    expect(lines[0]!.details.transfer).not.toBe(others[0]!.details.transfer);
  });

  test("silent by default: nothing is written to stdout or stderr", async () => {
    const written: unknown[] = [];
    for (const stream of [process.stdout, process.stderr]) {
      const { write } = stream;
      stream.write = ((text: unknown) => written.push(text) > 0) as typeof write;
      closers.push(() => {
        stream.write = write;
      });
    }
    await transfer();
    await streamModel(model, "ws://127.0.0.1:1").catch(() => {});
    for (const close of closers.splice(0).reverse()) await close();
    expect(written).toEqual([]);
  });

  test("credentials and tensor data never appear", async () => {
    const [logger, lines] = collecting();
    const url = "ws://user:hunter2@127.0.0.1:1/model?token=hunter2";
    const client = { headers: { authorization: "Bearer hunter2" } };
    await streamModel(model, url, { logger, dial: { client } }).catch(() => {});
    await transfer({ logger });
    const text = JSON.stringify(lines);
    expect(lines.map(({ level }) => level)).toEqual(["debug", "error", "debug", "info"]);
    expect(text).toContain("CHANNEL_OPEN");
    expect(text).not.toContain("hunter2");
    expect(text).not.toContain(String(SECRET));
  });

  test("what a transfer goes through: resumed, checkpoints, retries, the failure", () => {
    const [logger, lines] = collecting();
    const trace = new TransferTrace("receive", logger);
    trace.resume(98_304);
    trace.checkpoint(65_536);
    trace.retry(2, 150, new TensorwireError("CHANNEL_CLOSED", "tcp://a:b@host went away"));
    trace.end(new TensorwireError("IDLE_TIMEOUT", "gone"), 0);
    trace.retry(3, 150, new TensorwireError("CHANNEL_CLOSED", "nobody logs it any more"));
    expect(lines.map(({ level, details }) => [level, details])).toEqual([
      ["debug", { transfer: trace.id, role: "receive" }],
      ["info", { transfer: trace.id, sourceBytes: 98_304 }],
      ["debug", { transfer: trace.id, durableBytes: 65_536 }],
      [
        "warn",
        {
          transfer: trace.id,
          attempt: 2,
          delayMs: 150,
          code: "CHANNEL_CLOSED",
          error: "tcp://…@host went away",
          retryable: true,
        },
      ],
      ["error", expect.objectContaining({ code: "IDLE_TIMEOUT", error: "gone", retryable: true })],
    ]);
  });

  test("a server's logger hears of its transfers, and of whom it turned away", async () => {
    const heard = hearing();
    const [logger, lines] = collecting();
    const authorize = (credential: string | undefined) =>
      credential === "hunter2" ? { name: "anna", fetch: true } : undefined;
    const server = await createModelServer({ port: 0, authorize, logger });
    closers.push(() => server.close());
    server.publish("m", model);
    const to = discarding;
    const refused = receiveModel(server.urlOf("m"), { to, dial: { token: "hunter3" } }).done;
    await expect(refused).rejects.toMatchObject({ code: "UNAUTHORIZED" });
    await receiveModel(server.urlOf("m"), { to, dial: { token: "hunter2" } }).done;
    while (lines.length < 3) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(lines.map(({ level, message }) => [level, message])).toEqual([
      ["warn", "a peer was turned away"],
      ["debug", "the transfer begins"],
      ["info", "the transfer is done"],
    ]);
    expect(lines[0]!.details).toMatchObject({ code: "UNAUTHORIZED" });
    const events = heard.filter(({ name }) => name === "tensorwire:server:refuse");
    expect(events.map(({ message }) => message)).toMatchObject([{ server, code: "UNAUTHORIZED" }]);
    expect(
      JSON.stringify([lines, ...events.map(({ message }) => Object.values(message).slice(1))]),
    ).not.toContain("hunter");
  });

  test("whom another server turned away is not its logger's affair", () => {
    const [logger, lines] = collecting();
    const server = {};
    const stop = logTo(server, logger);
    for (const which of [server, {}]) {
      publish("tensorwire:server:refuse", () => ({
        server: which,
        code: "UNAUTHORIZED",
        reason: "Bearer hunter2 is unknown",
        peer: "10.0.0.7:443",
      }));
    }
    stop();
    expect(lines).toEqual([
      {
        level: "warn",
        details: { code: "UNAUTHORIZED", reason: "Bearer … is unknown", peer: "10.0.0.7:443" },
        message: "a peer was turned away",
      },
    ]);
  });

  test("console is a logger", async () => {
    const { debug, info } = console;
    const lines: unknown[][] = [];
    console.debug = console.info = (...line: unknown[]) => void lines.push(line);
    closers.push(() => Object.assign(console, { debug, info }));
    await transfer({ logger: console });
    expect(lines.map(([, message]) => message)).toEqual(["the transfer begins", "the transfer is done"]);
  });
});

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
