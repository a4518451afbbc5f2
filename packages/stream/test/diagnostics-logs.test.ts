import { TensorwireError } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { publish } from "../src/diagnostics/events.js";
import { logTo } from "../src/diagnostics/logger.js";
import { TransferTrace } from "../src/diagnostics/transfer-trace.js";
import { createModelServer, receiveModel, streamModel } from "../src/index.js";
import {
  BYTES,
  closers,
  collecting,
  discarding,
  hearing,
  model,
  SECRET,
  transfer,
} from "./diagnostics-fixture.js";

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
