import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import type { Loan } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { createModelServer, duplexChannel, receiveModel, remoteSource, streamModel } from "../src/index.js";
import { checksLoans } from "./loans-fixture.js";
import {
  CHUNK,
  model,
  perConnection,
  published,
  send,
  serving,
  small,
  sourceOf,
  whole,
} from "./remote-source-fixture.js";
import { cleanup, failure, folder, listing } from "./sink-fixture.js";

const built = new URL("../dist/", import.meta.url);
const runs = existsSync(new URL("index.js", built));
if (!runs) console.log("SKIPPED: needs npm run build");

checksLoans();

describe("what goes wrong on one of several connections", () => {
  test.each([
    ["another state", { version: "two" }],
    ["another model", { codec: "float16" }],
  ])("the first shows one model, another one %s: SOURCE_CHANGED", async (_, other) => {
    const { url } = await perConnection((socket, nth) => send(socket, nth === 2 ? other : {}));
    const at = folder();
    const error = await failure(
      receiveModel(url, { to: join(at, "m.twire"), concurrency: 4, ...small }).done,
    );
    expect(error.code).toBe("SOURCE_CHANGED");
    expect(listing(at)).toEqual([]);
  });

  /** A server of which one connection breaks after so many bytes. */
  const breaking = (which: number, after: number) =>
    perConnection((socket, nth) => {
      const channel = duplexChannel(socket);
      if (nth === which) {
        const { write } = socket;
        let bytes = 0;
        socket.write = ((...args: Parameters<typeof write>) => {
          bytes += (args[0] as unknown as Uint8Array).length;
          if (bytes > after) socket.destroy();
          return write.apply(socket, args);
        }) as typeof write;
      }
      return streamModel(model, channel, { ...published, ...small });
    });

  test.each([0, 2])("number %i breaks: the others go on, and it alone is made again", async (which) => {
    const { url, connections } = await breaking(which, 60_000);
    const to = join(folder(), "m.twire");
    const retry = { initialDelayMs: 1 };
    await receiveModel(url, { to, concurrency: 4, ...small, retry }).done;
    expect(connections()).toBe(5);
    expect(readFileSync(to).equals(await whole())).toBe(true);
  });

  test("it is interrupted without retry, and the same call goes on", async () => {
    const { url } = await breaking(1, 60_000);
    const at = folder();
    const call = () => receiveModel(url, { to: join(at, "m.twire"), concurrency: 4, ...small }).done;
    const error = await failure(call());
    expect([error.code, error.retryable]).toEqual(["CHANNEL_CLOSED", true]);
    expect(listing(at)).not.toContain("m.twire");
    await call();
    expect(readFileSync(join(at, "m.twire")).equals(await whole())).toBe(true);
    expect(listing(at)).toEqual(["m.twire"]);
  });

  test("the source is in another state when it comes again: SOURCE_CHANGED", async () => {
    const { url } = await perConnection((socket, nth) => {
      if (nth === 1) setTimeout(() => socket.destroy(), 30);
      return send(socket, nth > 3 ? { version: "two" } : { maxBytesPerSecond: 1_000_000 });
    });
    const call = receiveModel(url, {
      ...{ to: join(folder(), "m.twire"), concurrency: 4, ...small, retry: { initialDelayMs: 1 } },
    });
    expect((await failure(call.done)).code).toBe("SOURCE_CHANGED");
  });

  test("it is cancelled, and every connection hears of it", async () => {
    const { server, transfers } = await serving({ maxBytesPerSecond: 200_000 });
    const controller = new AbortController();
    const call = receiveModel(server.urlOf("m"), {
      ...{ to: join(folder(), "m.twire"), concurrency: 4, ...small, signal: controller.signal },
    });
    while (transfers.length < 4) await new Promise((resolve) => setTimeout(resolve, 1));
    controller.abort();
    expect((await failure(call.done)).code).toBe("ABORTED");
    for (const { done } of transfers) expect((await failure(done)).code).toBe("ABORTED");
  });
});

describe("a pull that is cancelled", () => {
  const patient = { ...small, concurrency: 4, idleTimeoutMs: 0 } as const;

  test("while other connections are not answered ends at once", async () => {
    const { url, connections } = await perConnection((socket, nth) => (nth === 0 ? send(socket) : undefined));
    const controller = new AbortController();
    const { signal } = controller;
    const call = receiveModel(url, { ...patient, to: join(folder(), "m.twire"), signal });
    await expect.poll(connections).toBe(4);
    controller.abort();
    expect((await failure(call.done)).code).toBe("ABORTED");
  });

  test("while no chunk comes ends at once", async () => {
    let asked = 0;
    const read = (): Promise<Loan> => {
      asked++;
      return new Promise(() => {});
    };
    const options = { chunkBytes: CHUNK, ...small, idleTimeoutMs: 0 };
    const { url } = await perConnection((socket) =>
      streamModel(sourceOf(40, { read }), duplexChannel(socket), options),
    );
    const controller = new AbortController();
    const { signal } = controller;
    const call = receiveModel(url, { ...patient, to: join(folder(), "m.twire"), signal });
    await expect.poll(() => asked).toBe(4);
    controller.abort();
    expect((await failure(call.done)).code).toBe("ABORTED");
  });
});

describe("a connection that breaks between WANT and its first chunk", () => {
  const plain = { weights: model.weights };

  test.each([0, 1, 3])("number %i, is the first cause; and with retry nothing", async (which) => {
    const serve = () =>
      perConnection((socket, nth) => {
        if (nth !== which) return send(socket, {}, plain);
        const read = (): never => {
          socket.destroy();
          throw new Error("gone");
        };
        return streamModel(sourceOf(40, { read }), duplexChannel(socket), { ...published, ...small });
      });
    const at = folder();
    const to = join(at, "m.twire");
    const first = await serve();
    const error = await failure(receiveModel(first.url, { to, concurrency: 4, ...small }).done);
    expect(error.code).toBe("CHANNEL_CLOSED");
    const second = await serve();
    await receiveModel(second.url, { to, concurrency: 4, ...small, retry: { initialDelayMs: 1 } }).done;
    expect(readFileSync(to).equals(await whole(plain))).toBe(true);
    expect(listing(at)).toEqual(["m.twire"]);
  });
});

describe("what goes on", () => {
  test.each(["one", undefined])("a relay, whose own receiver broke, of version %s", async (version) => {
    const { url } = await perConnection((socket) => send(socket, { version }));
    const at = folder();
    const server = await createModelServer({ uploads: at });
    cleanup(() => void server.close({ signal: AbortSignal.abort() }));
    server.on("transfer", ({ done }) => void done.catch(() => {}));
    const upload = new URL(server.urlOf("m.twire"));
    const port = Number(upload.port);
    const line = await perConnection((socket, nth) => {
      const far = connect(port, "127.0.0.1").on("error", () => {});
      far.on("close", () => socket.destroy());
      socket.on("close", () => far.destroy());
      let bytes = 0;
      socket.on("data", ({ length }) => {
        bytes += length;
        if (nth === 0 && bytes > 300_000) socket.destroy();
      });
      socket.pipe(far).pipe(socket);
    });
    upload.port = String(line.port);
    const source = remoteSource(url, { concurrency: 2, ...small });
    const retry = { initialDelayMs: 1 };
    const sent = await streamModel(source, upload, { ...small, retry });
    expect(sent.confirmed).toBe(true);
    expect(sent.retries).toBeGreaterThan(0);
    expect(readFileSync(join(at, "m.twire")).equals(await whole())).toBe(true);
  });

  test.runIf(runs)("a receiver whose process was killed: the same call ends with the same file", async () => {
    const { url } = await perConnection((socket) => send(socket, { maxBytesPerSecond: 300_000 }));
    const at = folder();
    const to = join(at, "m.twire");
    const script = `
      const { receiveModel } = await import(process.argv[1]);
      const onProgress = ({ durableBytes }) => durableBytes > 0 && process.stdout.write("durable\\n");
      await receiveModel(process.argv[2], { to: process.argv[3], concurrency: 4, windowBytes: ${small.windowBytes}, onProgress }).done;`;
    const args = ["--input-type=module", "-e", script, new URL("index.js", built).href, url, to];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    cleanup(() => child.kill("SIGKILL"));
    const exited = once(child, "exit");
    await once(child.stdout, "data");
    child.kill("SIGKILL");
    expect((await exited)[1]).toBe("SIGKILL");
    expect(listing(at)).not.toContain("m.twire");
    const summary = await receiveModel(url, { to, concurrency: 4, ...small }).done;
    expect(summary.resumedBytes).toBeGreaterThan(0);
    expect(readFileSync(to).equals(await whole())).toBe(true);
    expect(listing(at)).toEqual(["m.twire"]);
  });
});
