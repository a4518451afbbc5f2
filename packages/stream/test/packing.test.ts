import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  BUILT_IN_CODECS,
  CodecRegistry,
  type CodecSpec,
  FOOTER_BYTES,
  PortableBackend,
  parseFooter,
} from "@tensorwire/core";
import { defaultBackend } from "@tensorwire/quant-native";
import { describe, expect, test } from "vitest";
import { listen, memoryChannelPair, receiveModel, streamModel } from "../src/index.js";
import { artifactSource } from "../src/source/artifact.js";
import { arriving } from "./arriving.js";
import { checksLoans } from "./loans-fixture.js";
import { collect } from "./transfer-fixture.js";
import { backend, mixed, move, registry, scratch } from "./packing-fixture.js";
import { runPacker } from "./run-packer.js";

checksLoans();

/** Every codec, and those with parameters that change their payload's form. */
const specs: CodecSpec[] = [
  ...registry.names().map((name) => registry.resolve(name)),
  registry.resolve({ name: "blockwise8", block: 64 }),
  registry.resolve({ name: "normfloat4", block: 4096 }),
  registry.resolve({ name: "float4", nested: true }),
  registry.resolve({ name: "linear3", mode: "affine", block: 32 }),
  registry.resolve({ name: "linear5", scale: 0.01 }),
  registry.resolve({ name: "linear4", rounding: "stochastic", seed: "0123456789abcdef" }),
];
const expected = (name: keyof typeof mixed, spec: CodecSpec, chunkBytes: number): Uint8Array =>
  arriving({ name, ...mixed[name] }, spec, chunkBytes, registry);
const label = ({ name, ...parameters }: CodecSpec): string => `${name} ${JSON.stringify(parameters)}`;
const names = Object.keys(mixed) as (keyof typeof mixed)[];

/** What a peer without `lossless` has. */
const older = new CodecRegistry(BUILT_IN_CODECS.filter(({ name }) => name !== "lossless"));
const olderBackend = new PortableBackend(older);

describe.each(specs.map((spec) => [label(spec), spec] as const))("%s", (_label, spec) => {
  test("packed and not: the same model, hashes and payloads, in chunks that do not divide it", async () => {
    for (const chunkBytes of [32768, 40_000, 1 << 20]) {
      const options = { codec: spec, minElements: 0, chunkBytes };
      const plain = await move(mixed, { ...options, compress: "never" });
      const packed = await move(mixed, { ...options, compress: "auto" });
      for (const { got, sent, received } of [plain, packed]) {
        for (const name of names) {
          const where = `${name} in chunks of ${chunkBytes}`;
          const { data, dtype, shape } = got.get(name)!;
          expect({ dtype, shape }, where).toEqual({ dtype: mixed[name].dtype, shape: mixed[name].shape });
          expect(Buffer.compare(data, expected(name, spec, chunkBytes)), where).toBe(0);
        }
        const { seconds: _, peakRssBytes: __, confirmed: ___, declinedChunks: ____, ...same } = sent;
        expect(received).toMatchObject(same);
      }
      const { wireBytes, packedChunks, codecs, ...same } = packed.sent;
      expect(plain.sent).toMatchObject({
        digest: same.digest,
        codeBytes: same.codeBytes,
        scaleBytes: same.scaleBytes,
      });
      expect(packedChunks).toBeGreaterThan(plain.sent.packedChunks);
      expect(wireBytes).toBeLessThan(plain.sent.wireBytes);
      for (const [name, { wireBytes, payloadBytes }] of Object.entries(codecs)) {
        expect(payloadBytes).toBe(plain.sent.codecs[name]!.payloadBytes);
        expect(wireBytes).toBeLessThanOrEqual(payloadBytes);
      }
      // A codec that is made for packing is packed unasked; so is what falls back to it.
      const unasked = plain.sent.codecs.lossless !== undefined;
      expect(plain.sent.packedChunks > 0).toBe(unasked);
    }
  });

  test("over a WebSocket, into another dtype and into an artifact that goes on", async () => {
    const folder = await scratch();
    const artifact = join(folder, "model.twire");
    const options = { registry, backend, codec: spec, minElements: 0, chunkBytes: 40_000 };
    const listener = await listen();
    try {
      const kept = receiveModel(listener, { registry, backend, to: artifact }).done;
      const sent = await streamModel(mixed, listener.url, { ...options, compress: "auto" });
      expect(await kept).toMatchObject({ digest: sent.digest, packedChunks: sent.packedChunks });
      // As it travelled: the payloads in the file are as long as on the wire.
      expect((await readFile(artifact)).length).toBeLessThan(sent.wireBytes + 1000);
      const forwarded = await move(artifact, {});
      expect(forwarded.sent).toMatchObject({
        digest: sent.digest,
        packedChunks: sent.packedChunks,
        codecs: sent.codecs,
      });
      const halves = await move(artifact, {}, { outputDtype: "BF16" });
      const direct = await move(mixed, { ...options, compress: "never" }, { outputDtype: "BF16" });
      for (const name of names) {
        expect(Buffer.compare(halves.got.get(name)!.data, direct.got.get(name)!.data), name).toBe(0);
      }
    } finally {
      await listener.close();
    }
  });
});

test("an artifact: packed, unpacked, packed again with another codec, and packed only when it is sent", async () => {
  const folder = await scratch();
  const at = (name: string): string => join(folder, name);
  const common = { registry, backend };
  const options = { ...common, codec: "normfloat4", minElements: 0, chunkBytes: 40_000 };
  const packed = await streamModel(mixed, at("a.twire"), { ...options, compress: "auto" });
  const plain = await streamModel(mixed, at("b.twire"), options);
  expect(packed.digest).toBe(plain.digest);
  const sizes = await Promise.all(
    ["a.twire", "b.twire"].map(async (name) => (await readFile(at(name))).length),
  );
  expect(sizes[0]).toBeLessThan(sizes[1]!);

  await receiveModel(at("a.twire"), { ...common, to: at("a.safetensors") }).done;
  await receiveModel(at("b.twire"), { ...common, to: at("b.safetensors") }).done;
  expect(Buffer.compare(await readFile(at("a.safetensors")), await readFile(at("b.safetensors")))).toBe(0);

  // Another codec: every chunk is unpacked, decoded and encoded.
  const again = await move(at("a.twire"), { codec: "none" });
  for (const name of names) {
    expect(
      Buffer.compare(again.got.get(name)!.data, expected(name, registry.resolve("normfloat4"), 40_000)),
    ).toBe(0);
  }
  // No codec: the chunks stay what they are, and are packed where that is wanted.
  const late = await move(at("b.twire"), { compress: "auto" });
  expect(late.sent).toMatchObject({ digest: plain.digest, codecs: packed.codecs });
});

describe("a peer without lossless", () => {
  const peer = { registry: older, backend: olderBackend };

  test("gets nothing packed, whatever was asked, and no artifact's packing either", async () => {
    const options = { codec: "blockwise8", minElements: 0, chunkBytes: 40_000 } as const;
    const { sent, got } = await move(mixed, { ...options, compress: "auto" }, peer);
    expect(sent.packedChunks).toBe(0);
    const folder = await scratch();
    const path = join(folder, "model.twire");
    const packed = await streamModel(mixed, path, { registry, backend, ...options, compress: "auto" });
    expect(packed.packedChunks).toBeGreaterThan(0);
    const forwarded = await move(path, {}, peer);
    expect(forwarded.received).toMatchObject({ packedChunks: 0, digest: packed.digest });
    for (const [name, { data }] of forwarded.got) {
      expect(Buffer.compare(data, got.get(name)!.data), name).toBe(0);
    }
  });

  test("is not sent an artifact with lossless chunks, which says so before they go", async () => {
    const folder = await scratch();
    const path = join(folder, "model.twire");
    const data = new Float32Array(9000).fill(Number.NaN);
    const model = { weight: { dtype: "F32", shape: [9000], data } } as const;
    await streamModel(model, path, { registry, backend, codec: "blockwise8" });
    const [a, b] = memoryChannelPair();
    const received = receiveModel(b, peer);
    const [sent] = await Promise.allSettled([streamModel(path, a, { registry, backend }), collect(received)]);
    expect(sent).toMatchObject({ reason: { code: "CODEC_UNSUPPORTED", tensor: "weight", chunk: 0 } });
    await expect(received.done).rejects.toMatchObject({ code: "PEER_FAILED" });
    // Encoded anew it can be.
    const anew = await move(path, { codec: "float16" }, peer);
    expect(anew.received).toMatchObject({ fallbackChunks: 1, codecs: { none: { wireBytes: 36_000 } } });
  });
});

describe("backends pack otherwise, and give the same model and digest", () => {
  const native = defaultBackend({ codecs: registry });
  const fewest = new PortableBackend(registry);
  const pairs = {
    "the default one to one that only undoes": [native, fewest],
    "the tests' one to the default one": [backend, native],
  } as const;

  test.each(Object.entries(pairs))("%s", async (_, [sends, receives]) => {
    for (const spec of specs) {
      const options = { codec: spec, minElements: 0, chunkBytes: 40_000, compress: "auto" } as const;
      const { got, sent } = await move(mixed, { ...options, backend: sends }, { backend: receives });
      const plain = await move(mixed, { ...options, compress: "never" });
      expect(sent.digest, label(spec)).toBe(plain.sent.digest);
      for (const name of names) {
        const same = Buffer.compare(got.get(name)!.data, plain.got.get(name)!.data) === 0;
        expect(same, `${name} as ${label(spec)}`).toBe(true);
      }
    }
  });

  test("the default one packs what a library can", async () => {
    const payload = mixed.whole.data;
    const packed = new Uint8Array(payload.length);
    const probe = await native.pack({ payload, segments: [payload.length], packed });
    if (!probe.packedBytes) return console.log("SKIPPED: needs libzstd");
    for (const spec of specs) {
      const options = { codec: spec, minElements: 0, backend: native, compress: "auto" } as const;
      const { sent } = await move(mixed, options, { backend: native });
      expect(sent.packedChunks, label(spec)).toBeGreaterThan(2);
    }
  });
});

test("a file of bytes is packed as well", async () => {
  const folder = await scratch();
  const path = join(folder, "weights.bin");
  const bytes = new Uint8Array(100_000).map((_, i) => (i % 1000 < 700 ? 0 : i * 7));
  await writeFile(path, bytes);
  const [a, b] = memoryChannelPair();
  const to = join(folder, "copy.bin");
  const received = receiveModel(b, { registry, backend, to }).done;
  const sent = await streamModel(path, a, { registry, backend, compress: "auto", chunkBytes: 40_000 });
  expect(sent).toMatchObject({ packedChunks: 3, codecs: { none: { payloadBytes: 100_000 } } });
  expect(sent.wireBytes).toBeLessThan(60_000);
  expect((await received).digest).toBe(sent.digest);
  expect(Buffer.compare(await readFile(to), bytes)).toBe(0);
});

test("an artifact whose packed payload is damaged is refused where it is read, as a file that is damaged", async () => {
  const folder = await scratch();
  const path = join(folder, "model.twire");
  await streamModel({ odd: mixed.odd }, path, { registry, backend, compress: "auto" });
  const file = await readFile(path);
  const source = artifactSource(path, { registry, backend });
  await source.open();
  const { packedBytes } = source.record(0);
  await source.close();
  // The last payload stands before END.
  const { endPosition: end } = parseFooter(file.subarray(-FOOTER_BYTES), file.length)!;
  for (const at of [end - packedBytes, end - packedBytes + 4, end - packedBytes + 9, end - 1]) {
    const damaged = Buffer.from(file);
    damaged[at]! ^= 1;
    await writeFile(path, damaged);
    for (const options of [{}, { codec: "none" }]) {
      const [a, b] = memoryChannelPair();
      const received = receiveModel(b, { registry, backend });
      const [sent] = await Promise.allSettled([
        streamModel(path, a, { registry, backend, ...options }),
        collect(received),
      ]);
      expect(sent).toMatchObject({
        reason: { code: "SOURCE_INVALID", message: expect.stringContaining("byte "), tensor: "odd" },
      });
    }
    // Read as a channel it is what the channel's bytes are: damaged on the way, perhaps.
    await expect(
      receiveModel(path, { registry, backend, to: join(folder, "x.safetensors") }).done,
    ).rejects.toMatchObject({ code: expect.stringMatching(/CORRUPT|PAYLOAD_INVALID/), retryable: true });
  }
});

test("the packer of these tests makes frames that another one undoes", () => {
  const undoes = new PortableBackend(registry);
  const payload = new Uint8Array(400_000).map((_, i) => (i % 300_000 < 200_000 ? 9 : i * 31));
  const packed = new Uint8Array(payload.length);
  const bytes = runPacker.pack(payload, packed);
  expect(bytes).toBeGreaterThan(0);
  const envelope = new Uint8Array(4 + bytes);
  new DataView(envelope.buffer).setUint32(0, bytes, true);
  envelope.set(packed.subarray(0, bytes), 4);
  const back = new Uint8Array(payload.length);
  return expect(
    Promise.resolve(undoes.unpack({ packed: envelope, segments: [payload.length], payload: back })).then(() =>
      Buffer.compare(back, payload),
    ),
  ).resolves.toBe(0);
});
