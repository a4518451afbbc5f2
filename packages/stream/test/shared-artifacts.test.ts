import { open, rename } from "node:fs/promises";
import {
  BufferPool,
  type Chunk,
  type Manifest,
  planManifest,
  DEFAULT_LIMITS,
  defaultCodecs,
} from "@tensorwire/core";
import { expect, test } from "vitest";
import { transferModel } from "../src/index.js";
import { type ArtifactSource, sharedArtifactSource } from "../src/source/artifact.js";
import { SharedArtifacts } from "../src/source/shared-artifacts.js";
import { at, hasFolder } from "./model-server-fixture.js";

hasFolder();

const MIB = 2 ** 20;
const POOL = (): BufferPool => new BufferPool(MIB);

async function artifact(name: string, value = 1, codec = "none"): Promise<string> {
  const floats = (count: number) => Float32Array.from({ length: count }, (_, i) => value + (i % 7));
  const model = {
    large: { dtype: "F32" as const, shape: [MIB], data: floats(MIB) },
    small: { dtype: "F32" as const, shape: [1000], data: floats(1000) },
  };
  await transferModel(model, at(name), { codec, chunkBytes: MIB });
  return at(name);
}

const chunksOf = (manifest: Manifest): Chunk[] => [
  ...planManifest(manifest, DEFAULT_LIMITS, defaultCodecs).walk(),
];

async function readers(path: string, count: number, shared = new SharedArtifacts()) {
  const sources: ArtifactSource[] = Array.from({ length: count }, () =>
    sharedArtifactSource(path, {}, shared),
  );
  const manifests: Manifest[] = [];
  for (const source of sources) manifests.push(await source.open());
  return { sources, manifests, chunks: chunksOf(manifests[0]!) };
}

const close = (sources: readonly ArtifactSource[]) => Promise.all(sources.map((source) => source.close()));

test("a large chunk is one piece of memory for all who have it at once, until the last gives it back", async () => {
  const { sources, manifests, chunks } = await readers(await artifact("m.twire"), 3);
  // What it says of itself is one object, too.
  expect(new Set(manifests).size).toBe(1);
  const [a, b] = await Promise.all([0, 1].map((i) => sources[i]!.readEncoded(chunks[1]!, POOL())));
  const bytes = Buffer.from(a!.loan.bytes);
  expect(b!.loan.bytes).toBe(a!.loan.bytes);
  a!.loan.release();
  expect(() => a!.loan.release()).toThrow(/released twice/);
  const c = await sources[2]!.readEncoded(chunks[1]!, POOL());
  expect(c.loan.bytes).toBe(b!.loan.bytes);
  b!.loan.release();
  expect(Buffer.compare(c.loan.bytes, bytes)).toBe(0);
  c.loan.release();
  await close(sources);
});

test("small chunks are each reader's own, and what a chunk takes is said before it is read", async () => {
  const { sources, manifests, chunks } = await readers(await artifact("m.twire"), 2);
  const plan = planManifest(manifests[0]!, DEFAULT_LIMITS, defaultCodecs);
  const { loans, lent, slabs } = sources[1]!.memory!(plan);
  const small = chunks.at(-1)!;
  expect([lent!.of(chunks[0]!), loans!.of(chunks[0]!)]).toEqual([MIB, 0]);
  expect([lent!.of(small), loans!.of(small), slabs]).toEqual([0, 4000, 1]);
  const pools = [POOL(), POOL()];
  const read = await Promise.all(sources.map((source, i) => source.readEncoded(small, pools[i]!)));
  expect(pools.map(({ loans }) => loans)).toEqual([1, 1]);
  for (const { loan } of read) loan.release();
  await close(sources);
  expect(pools.map(({ loans }) => loans)).toEqual([0, 0]);
});

test("a file that was replaced is another artifact: whoever reads the old one has that to the end", async () => {
  const shared = new SharedArtifacts();
  const path = await artifact("m.twire");
  const old = await readers(path, 1, shared);
  await rename(await artifact("other.twire", 5), path);
  const now = await readers(path, 1, shared);
  const pool = POOL();
  const [before, after] = await Promise.all(
    [old, now].map(({ sources, chunks }) => sources[0]!.readEncoded(chunks[0]!, pool)),
  );
  const first = (bytes: Uint8Array): number =>
    new DataView(bytes.buffer, bytes.byteOffset).getFloat32(0, true);
  expect([first(before!.loan.bytes), first(after!.loan.bytes)]).toEqual([1, 5]);
  for (const { loan } of [before!, after!]) loan.release();
  await close([...old.sources, ...now.sources]);
});

test("a damaged payload fails for all who asked for it, and again for who asks later", async () => {
  const path = await artifact("m.twire");
  const { sources, chunks } = await readers(path, 2);
  await damage(path);
  const failures = await Promise.all(
    sources.map((source) => source.readEncoded(chunks[0]!, POOL()).catch((error) => error.code)),
  );
  expect(failures).toEqual(["SOURCE_CHANGED", "SOURCE_CHANGED"]);
  await expect(sources[1]!.readEncoded(chunks[0]!, POOL())).rejects.toMatchObject({ code: "SOURCE_CHANGED" });
  await close(sources);
});

/** Changes what the first payload has in its middle. */
async function damage(path: string): Promise<void> {
  const file = await open(path, "r+");
  await file.write(Uint8Array.of(0xff, 0xff), 0, 2, MIB / 2);
  await file.close();
}

test("a reader that leaves while others wait for what it reads has read it for them", async () => {
  const { sources, chunks } = await readers(await artifact("m.twire"), 2);
  const [mine, theirs] = sources.map((source) => source.readEncoded(chunks[0]!, POOL()));
  await sources[0]!.close();
  (await mine!).loan.release();
  expect((await theirs!).loan.bytes.length).toBe(MIB);
  (await theirs!).loan.release();
  await sources[1]!.close();
});
