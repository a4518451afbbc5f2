import { readFileSync } from "node:fs";
import { createServer as createWebServer } from "node:http";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  createModelServer,
  duplexChannel,
  listen,
  receiveModel,
  remoteSource,
  streamModel,
  type TensorMap,
  transferModel,
} from "../src/index.js";
import { checksLoans } from "./loans-fixture.js";
import {
  CHUNK,
  model,
  perConnection,
  published,
  send,
  serving,
  small,
  whole,
} from "./remote-source-fixture.js";
import { cleanup, failure, folder, listing } from "./sink-fixture.js";

checksLoans();

describe("a model that is pulled over several connections", () => {
  test.each([1, 2, 4, 16])("is the same, with %i of them", async (concurrency) => {
    const { url, connections } = await perConnection((socket) => send(socket));
    const at = folder();
    const source = remoteSource(url, { concurrency, ...small });
    const summary = await transferModel(source, join(at, "m.twire"), small);
    expect(readFileSync(join(at, "m.twire")).equals(await whole())).toBe(true);
    expect(summary).toMatchObject({ confirmed: true, resumedBytes: 0 });
    expect(connections()).toBe(concurrency);
  });

  test.each(["ws", "http"])(
    "comes from a server over %s, to a file and to whoever iterates",
    async (scheme) => {
      const { server, transfers } = await serving();
      const url = server.urlOf("m").replace(/^ws/, scheme);
      const at = folder();
      const summary = await receiveModel(url, { to: join(at, "m.safetensors"), concurrency: 4, ...small })
        .done;
      expect(transfers).toHaveLength(4);
      const one = await receiveModel(url, { to: join(at, "one.safetensors"), ...small }).done;
      expect(summary.digest).toBe(one.digest);
      expect(readFileSync(join(at, "m.safetensors")).equals(readFileSync(join(at, "one.safetensors")))).toBe(
        true,
      );
      const names: string[] = [];
      for await (const { name } of receiveModel(url, { concurrency: 3, ...small })) names.push(name);
      expect(names).toEqual(Object.keys(model));
    },
  );

  test("with SHA-256, and packed", async () => {
    const { server } = await serving();
    server.publish("s", model, { ...published, codec: "lossless", integrity: "sha256" });
    const [one, four] = await Promise.all(
      [1, 4].map(
        (concurrency) =>
          receiveModel(server.urlOf("s"), {
            ...{ to: join(folder(), "m.twire"), concurrency, integrity: "sha256", ...small },
          }).done,
      ),
    );
    expect(four!.sha256).toBe(one!.sha256);
    expect(four!.sha256).toMatch(/^[0-9a-f]{64}$/);
    const known = { expectedDigest: `sha256:${one!.sha256}`, concurrency: 2, ...small };
    await receiveModel(server.urlOf("s"), { ...known, to: join(folder(), "m.twire") }).done;
    const other = receiveModel(server.urlOf("m"), { ...known, to: join(folder(), "m.twire") }).done;
    expect((await failure(other)).code).toBe("INTEGRITY_REQUIRED");
  });

  test("of which only a part is lacking, over as many as that takes", async () => {
    const { url, connections } = await perConnection((socket) => send(socket));
    const at = folder();
    const controller = new AbortController();
    const stopped = receiveModel(url, {
      ...{ to: join(at, "m.twire"), ...small, signal: controller.signal, maxBytesPerSecond: 1_000_000 },
      onProgress: ({ durableBytes }) => durableBytes > 0 && controller.abort(),
    }).done;
    await failure(stopped);
    expect(listing(at)).toContain("m.twire.part.journal");
    const before = connections();
    const summary = await receiveModel(url, { to: join(at, "m.twire"), concurrency: 4, ...small }).done;
    expect(summary.resumedBytes).toBeGreaterThan(0);
    expect(readFileSync(join(at, "m.twire")).equals(await whole())).toBe(true);
    expect(connections() - before).toBeLessThanOrEqual(4);
  });

  test("that names no version comes over one: nothing says that several would show the same state", async () => {
    const { url, connections } = await perConnection((socket) => send(socket, { version: undefined }));
    const summary = await receiveModel(url, { to: join(folder(), "m.twire"), concurrency: 4, ...small }).done;
    expect([summary.confirmed, connections()]).toEqual([true, 1]);
  });

  test("comes over as many as the server takes", async () => {
    const { server, transfers } = await serving({ limits: { maxPeerTransfers: 2 } });
    const to = join(folder(), "m.twire");
    expect((await receiveModel(server.urlOf("m"), { to, concurrency: 4, ...small }).done).confirmed).toBe(
      true,
    );
    expect(transfers).toHaveLength(2);
  });

  test("comes over as many as have a chunk each in the window", async () => {
    const { url, connections } = await perConnection((socket) => send(socket));
    await receiveModel(url, { to: join(folder(), "m.twire"), concurrency: 16, windowBytes: 3 * CHUNK }).done;
    expect(connections()).toBe(3);
  });

  test("comes over one from a web server that knows no channels", async () => {
    const bytes = await whole();
    let requests = 0;
    const web = createWebServer(({ method }, answer) => {
      if (method !== "GET") return void answer.writeHead(405).end();
      requests++;
      answer.end(bytes);
    });
    await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
    cleanup(() => void web.close());
    const url = `http://127.0.0.1:${(web.address() as { port: number }).port}/model`;
    const to = join(folder(), "m.twire");
    await receiveModel(url, { to, concurrency: 4, ...small }).done;
    // One that asked for a part, and one for all.
    expect(requests).toBe(2);
    expect(readFileSync(to).equals(bytes)).toBe(true);
  });

  test("refuses what has no several connections", async () => {
    const refused = [
      { from: "m.twire", concurrency: 2, code: "INVALID_ARGUMENT" },
      { from: "ws://127.0.0.1:1/m", concurrency: 0, code: "INVALID_ARGUMENT" },
      { from: "ws://127.0.0.1:1/m", concurrency: 65, code: "INVALID_ARGUMENT" },
      { from: "ws://127.0.0.1:1/m", concurrency: 2, code: "CHANNEL_OPEN" },
    ];
    for (const { from, concurrency, code } of refused) {
      const to = join(folder(), "m.safetensors");
      expect((await failure(receiveModel(from, { to, concurrency }).done)).code, from).toBe(code);
    }
  });
});

describe("fewer connections than were asked for", () => {
  test("of a busy server are known at once, and are not waited for with retry", async () => {
    const server = await createModelServer({ limits: { maxPeerTransfers: 2 } });
    cleanup(() => void server.close({ signal: AbortSignal.abort() }));
    server.on("transfer", ({ done }) => void done.catch(() => {}));
    server.publish("m", model, published);
    const retried: string[] = [];
    // As long as the test takes at most: it is not waited for.
    const retry = {
      attempts: 5,
      initialDelayMs: 60_000,
      maxDelayMs: 60_000,
      onRetry: () => retried.push("m"),
    };
    const to = join(folder(), "m.twire");
    const call = receiveModel(server.urlOf("m"), { to, concurrency: 4, ...small, retry });
    expect((await call.done).confirmed).toBe(true);
    expect(retried).toEqual([]);
  });

  test("of a listener that sends to one peer bring it as well", async () => {
    const listener = await listen({ url: "tcp://127.0.0.1:0" });
    cleanup(() => void listener.close());
    const sent = streamModel(model, listener, { ...published, ...small });
    const to = join(folder(), "m.twire");
    const options = { to, concurrency: 4, ...small, idleTimeoutMs: 1000 };
    expect((await receiveModel(listener.url, options).done).confirmed).toBe(true);
    expect((await sent).confirmed).toBe(true);
    expect(readFileSync(to).equals(await whole())).toBe(true);
  });
});

describe("tiny models", () => {
  const empty = { dtype: "F32", data: new Float32Array(0) } as const;
  const tiny: readonly (readonly [string, TensorMap])[] = [
    ["no tensor", {}],
    ["empty tensors", { a: { ...empty, shape: [0] }, b: { ...empty, shape: [3, 0] } }],
    ["one element", { a: { dtype: "F32", shape: [1], data: Float32Array.of(7) } }],
  ];

  test.each(tiny)("of %s come over as many connections as they have use for", async (_, tensors) => {
    const { url, connections } = await perConnection((socket) =>
      streamModel(tensors, duplexChannel(socket), { version: "one" }),
    );
    const to = join(folder(), "m.twire");
    expect((await receiveModel(url, { to, concurrency: 4 }).done).confirmed).toBe(true);
    expect(connections()).toBe(1);
    const names: string[] = [];
    for await (const { name } of receiveModel(url, { concurrency: 4 })) names.push(name);
    expect(names).toEqual(Object.keys(tensors));
  });
});
