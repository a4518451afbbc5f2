import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Events, listenTo, publish } from "../src/diagnostics/events.js";
import { memoryChannelPair, receiveModel, streamModel, type TensorMap } from "../src/index.js";
import {
  BYTES,
  CHUNKS,
  closers,
  collecting,
  discarding,
  hearing,
  listening,
  model,
  small,
  transfer,
} from "./diagnostics-fixture.js";
import { FaultyLine } from "./faulty-line.js";
import { ScriptedPeer } from "./scripted-peer.js";

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
