import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  FrameType,
  MAX_ASKED_CHARACTERS,
  HelloSchema,
  parseJson,
  Glob,
  TensorwireError,
} from "@tensorwire/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  createModelServer,
  dialTcp,
  fromTensors,
  listen,
  memoryChannelPair,
  modelDigest,
  type ReceiveOptions,
  receiveModel,
  select,
  type SourceLike,
  streamModel,
  transferModel,
} from "../src/index.js";
import { sampleTensors } from "../src/testing/index.js";
import { checksLoans } from "./loans-fixture.js";
import { ScriptedPeer } from "./scripted-peer.js";

const tensors = sampleTensors();
const map = new Map(tensors.map(({ name, ...tensor }) => [name, tensor]));
const wanted = ["w*", "double", "scalar"];
const names = ["scalar", "weight", "double"];
let folder: string;
checksLoans();
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-"));
  await streamModel(map, join(folder, "model.twire"), {
    codec: "blockwise8",
    chunkBytes: 32_768,
    integrity: "sha256",
  });
});
afterAll(() => rm(folder, { recursive: true }));

/** Both ends of a transfer over a socket. */
async function transfer(source: SourceLike, receiving: ReceiveOptions, sending: object = {}) {
  const listener = await listen();
  try {
    const sent = streamModel(source, listener, sending);
    sent.catch(() => {});
    const got: { name: string; data: Uint8Array }[] = [];
    const model = receiveModel(listener.url, receiving);
    if (receiving.to === undefined) {
      for await (const { name, data } of model) got.push({ name, data: new Uint8Array(data) });
    }
    return { got, received: await model.done, sent: await sent };
  } finally {
    await listener.close();
  }
}

describe("a receiver that asks for some tensors", () => {
  test("gets those, of whatever source, and a receipt for them", async () => {
    for (const [source, options] of [
      [map, {}],
      [join(folder, "model.twire"), {}],
      [fromTensors(tensors, tensors), { codec: "float16" }],
    ] as const) {
      const { got, sent, received } = await transfer(source, { tensors: wanted }, options);
      expect(got.map(({ name }) => name)).toEqual(names);
      expect(sent).toMatchObject({ confirmed: true, tensors: 3, digest: received.digest });
      if (source === map)
        for (const { name, data } of got) expect(Buffer.compare(data, map.get(name)!.data)).toBe(0);
    }
  });

  test("of an artifact gets its payloads, with their SHA-256", async () => {
    const to = join(folder, "some.twire");
    const { received } = await transfer(join(folder, "model.twire"), { tensors: wanted, to });
    expect(received.sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(Object.keys(received.codecs)).toContain("blockwise8");
    const sizes = await Promise.all([to, join(folder, "model.twire")].map((path) => readFile(path)));
    expect(sizes[0]!.length).toBeLessThan(sizes[1]!.length);
    expect(await modelDigest(to)).toMatch(/^sha256:/);
  });

  test("within a process is the same", async () => {
    const to = join(folder, "within.twire");
    const summary = await transferModel(join(folder, "model.twire"), to, { tensors: wanted });
    expect(summary).toMatchObject({ tensors: 3, confirmed: true });
    expect(await modelDigest(to)).toBe(await modelDigest(select(join(folder, "model.twire"), wanted)));
  });

  test("of a server, each its own", async () => {
    const server = await createModelServer();
    server.publish("m", map);
    try {
      const url = `${server.url}m`;
      const [some, one, all] = await Promise.all(
        [wanted, ["ids"], undefined].map(async (asked) => {
          const got: string[] = [];
          for await (const { name } of receiveModel(url, { tensors: asked })) got.push(name);
          return got;
        }),
      );
      expect(some).toEqual(names);
      expect(one).toEqual(["ids"]);
      expect(all).toEqual(tensors.map(({ name }) => name));
      const refused = receiveModel(url, { tensors: ["nobody"], to: join(folder, "x.safetensors") }).done;
      await expect(refused).rejects.toMatchObject({
        code: "PEER_FAILED",
        peerCode: "INVALID_ARGUMENT",
        message: expect.stringContaining("matches no tensor"),
      });
    } finally {
      await server.close();
    }
  });

  test("is refused by a sender that has none of them, or bytes; both ends say why", async () => {
    for (const [source, message] of [
      [map, /"nobody" matches no tensor of "the model": its first is "scalar"/],
      [join(import.meta.dirname, "asked-tensors.test.ts"), /"the model" is no model/],
    ] as const) {
      const listener = await listen();
      const sent = streamModel(source, listener);
      const done = receiveModel(listener.url, {
        tensors: ["nobody"],
        to: join(folder, "none.safetensors"),
      }).done;
      const [one, other] = await Promise.allSettled([sent, done]);
      expect(one).toMatchObject({
        reason: { code: "INVALID_ARGUMENT", message: expect.stringMatching(message) },
      });
      expect(other).toMatchObject({ reason: { code: "PEER_FAILED", peerCode: "INVALID_ARGUMENT" } });
      await listener.close();
    }
  });

  test("refuses a sender that passes over it, and a stream that has no way back", async () => {
    const [here, there] = memoryChannelPair();
    const peer = new ScriptedPeer(here);
    const { done } = receiveModel(there, { tensors: ["w"], to: join(folder, "old.safetensors") });
    await peer.hello("send");
    const hello = parseJson(FrameType.HELLO, HelloSchema, (await peer.hears(FrameType.HELLO))!);
    expect(hello.tensors).toEqual(["w"]);
    const manifest = (all: unknown[]) =>
      JSON.stringify({
        kind: "model",
        chunkBytes: 32768,
        codecs: [{ name: "none" }],
        tensors: all,
        metadata: [],
      });
    await peer.say(
      FrameType.MANIFEST,
      manifest([
        ["w", "F32", [1], 0],
        ["x", "F32", [1], 0],
      ]),
    );
    await expect(done).rejects.toMatchObject({
      code: "VERSION_UNSUPPORTED",
      tensor: "x",
      message: expect.stringMatching(/knows of no subsets/),
    });
    const file = receiveModel(join(folder, "model.twire"), {
      tensors: ["ids"],
      to: join(folder, "y.safetensors"),
    });
    await expect(file.done).rejects.toMatchObject({ code: "VERSION_UNSUPPORTED" });
  });

  test.each([
    [[], /1 to 256/],
    [["x".repeat(257)], /at most 256/],
    [Array.from({ length: 20 }, () => "x".repeat(250)), /at most 4096 characters in all/],
  ])("asks within bounds: %#", async (asked, message) => {
    const { done } = receiveModel("ws://127.0.0.1:1", { tensors: asked });
    await expect(done).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringMatching(message),
    });
  });

  test("on a connection that is shared asks once", async () => {
    const [here, there] = memoryChannelPair();
    const sending = [streamModel(map, here), streamModel(map, here, { codec: "float16" })];
    const receive = async (asked: string[]) => {
      const got: string[] = [];
      for await (const { name } of receiveModel(there, { tensors: asked })) got.push(name);
      return got;
    };
    expect(await receive(wanted)).toEqual(names);
    await expect(receive(["ids"])).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(await receive(wanted)).toEqual(names);
    await Promise.all(sending);
  });
});

describe("a sender that tries again", () => {
  const peer = async (url: string, asked: string[]): Promise<ScriptedPeer> => {
    const scripted = new ScriptedPeer(await dialTcp(url));
    await scripted.hello("receive", { tensors: asked });
    return scripted;
  };
  const namesOf = async (scripted: ScriptedPeer): Promise<string[]> => {
    const manifest = JSON.parse(Buffer.from((await scripted.hears(FrameType.MANIFEST))!).toString());
    return manifest.tensors.map(([name]: [string]) => name);
  };

  test("goes on with a peer that asks alike, and with no other", async () => {
    const listener = await listen({ url: "tcp://127.0.0.1:0" });
    const sent = streamModel(map, listener, { retry: { initialDelayMs: 1, maxDelayMs: 2 } });
    sent.catch(() => {});
    for (const _ of [1, 2]) {
      const first = await peer(listener.url, wanted);
      expect(await namesOf(first)).toEqual(names);
      await first.channel.close(new TensorwireError("CHANNEL_CLOSED", "gone"));
    }
    const other = await peer(listener.url, ["ids"]);
    await expect(sent).rejects.toMatchObject({ code: "SOURCE_MISMATCH" });
    expect(await other.hears(FrameType.MANIFEST)).toBeUndefined();
    await listener.close();
  });
});

describe("a stranger's HELLO", () => {
  const hello = (asked: unknown) =>
    JSON.stringify({
      versions: [1],
      software: "x",
      role: "receive",
      codecs: [],
      limits: { maxChunkBytes: 1, maxManifestBytes: 1 },
      tensors: asked,
    });

  test.each([
    [[]],
    ["*"],
    [[1]],
    [Array.from({ length: 257 }, () => "*")],
    [["x".repeat(257)]],
    [Array.from({ length: 17 }, () => "x".repeat(MAX_ASKED_CHARACTERS / 16))],
  ])("asks within bounds, or is a fault: %#", async (asked) => {
    const [here, there] = memoryChannelPair();
    const peer = new ScriptedPeer(here);
    const sent = streamModel(map, there);
    sent.catch(() => {});
    await peer.raw(Buffer.from("8954574952450d0a", "hex"));
    await peer.say(FrameType.HELLO, hello(asked), { transfer: 0 });
    await expect(sent).rejects.toMatchObject({ code: "PROTOCOL" });
  });

  // Backtracking over every star would take longer than the universe has.
  test("cannot keep a sender busy: no pattern takes more than its length times a name's", () => {
    let looked = 0;
    const name = new Proxy([..."a".repeat(200)], {
      get: (target, key) => {
        if (typeof key === "string" && /^\d+$/.test(key)) looked++;
        return Reflect.get(target, key);
      },
    });
    const pattern = `${"*a".repeat(100)}*b`;
    expect(new Glob(pattern).matches(name)).toBe(false);
    expect(looked).toBeLessThanOrEqual(pattern.length * name.length);
  });
});
