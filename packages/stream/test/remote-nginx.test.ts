import { once } from "node:events";
import { createWriteStream, existsSync, renameSync, utimesSync } from "node:fs";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  artifactSource,
  type ReceiveOptions,
  receiveModel,
  remoteArtifact,
  safetensorsSource,
  streamModel,
  transferModel,
} from "../src/index.js";
import { TAIL_BYTES } from "../src/remote/http-reader.js";
import { CliProcess, COMMAND } from "./cli-process.js";
import { hasNginx, Nginx } from "./nginx.js";

const built = existsSync(new URL("../dist/index.js", import.meta.url)) && existsSync(COMMAND);
if (!built) console.log("SKIPPED: needs npm run build");

const KiB = 1024;
const MiB = 2 ** 20;
const LAYERS = 6;
const ELEMENTS = MiB;

let folder: string;
let nginx: Nginx;
const closers: (() => unknown)[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-remote-"));
});
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  await rm(folder, { recursive: true });
});

/** 24 MiB in layers of a large tensor and a small one. */
function model(seed: number): Record<string, { dtype: "F32"; shape: number[]; data: Float32Array }> {
  const tensors: ReturnType<typeof model> = {};
  for (let layer = 0; layer < LAYERS; layer++) {
    const data = Float32Array.from(
      { length: ELEMENTS },
      (_, i) => Math.sin(i * 12.9898 + layer + seed) * 0.02,
    );
    tensors[`layers.${layer}.weight`] = { dtype: "F32", shape: [ELEMENTS], data };
    tensors[`layers.${layer}.bias`] = { dtype: "F32", shape: [16], data: data.subarray(0, 16) };
  }
  return tensors;
}
const first = model(0);

/** Progress is told ten times a second: there must be something left to bring when it is. */
const SLOWLY = "limit_rate 8m;";

const served = (name: string): string => join(folder, name);

async function serve(settings?: string): Promise<string> {
  await streamModel(first, served("m.twire"), { chunkBytes: MiB });
  nginx = await Nginx.serving(folder, settings);
  closers.push(() => nginx.dispose());
  return nginx.urlOf("m.twire");
}

/** What a receiver has of a model in the end, by tensor. */
async function collected(url: string, options: ReceiveOptions = {}): Promise<Map<string, Float32Array>> {
  const tensors = new Map<string, Float32Array>();
  const received = receiveModel(url, options);
  for await (const { name, data } of received) {
    tensors.set(name, new Float32Array(data.buffer, data.byteOffset, data.byteLength / 4).slice());
  }
  await received.done;
  return tensors;
}

function same(a: Float32Array | undefined, b: Float32Array): boolean {
  const bytes = ({ buffer, byteOffset, byteLength }: Float32Array) =>
    Buffer.from(buffer, byteOffset, byteLength);
  return a !== undefined && Buffer.compare(bytes(a), bytes(b)) === 0;
}

/** Requests that were answered with a part. */
const parts = (): string[] => nginx.requests.filter((line) => line.startsWith("206 GET"));

describe.runIf(hasNginx)("an artifact behind nginx", () => {
  test("is fetched by ranges, and is what it was", async () => {
    const url = await serve();
    const to = served("m.safetensors");
    const summary = await receiveModel(url, { to }).done;
    const { digest } = await transferModel(served("m.twire"), served("copy.twire"));
    expect(summary).toMatchObject({ digest, confirmed: true });
    expect(nginx.requests[0]).toMatch(/^200 HEAD/);
    expect(parts().length).toBeGreaterThan(6);
    const { size } = await stat(served("m.twire"));
    expect(nginx.sentBytes).toBeLessThan(size + 2 * TAIL_BYTES);
    const all = await collected(url);
    for (const [name, { data }] of Object.entries(first)) expect(same(all.get(name), data)).toBe(true);
  }, 30_000);

  test("gives some of its tensors for the bytes of those, its index and its head", async () => {
    const url = await serve();
    const tensors = await collected(url, { tensors: ["layers.2.*"] });
    expect([...tensors.keys()]).toEqual(["layers.2.weight", "layers.2.bias"]);
    expect(same(tensors.get("layers.2.weight"), first["layers.2.weight"]!.data)).toBe(true);
    const wanted = ELEMENTS * 4 + 16 * 4;
    expect(nginx.sentBytes).toBeGreaterThan(wanted);
    expect(nginx.sentBytes).toBeLessThan(wanted + TAIL_BYTES + 16 * KiB);
  }, 30_000);

  test("that has none of the tensors says so, and is not read", async () => {
    const url = await serve();
    const { done } = receiveModel(url, { to: served("x.safetensors"), tensors: ["layer.*"] });
    await expect(done).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(nginx.sentBytes).toBeLessThan(TAIL_BYTES + 16 * KiB);
  }, 30_000);

  test("compresses nothing, though nginx would", async () => {
    const url = await serve("gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any;");
    await receiveModel(url, { to: served("m.safetensors"), concurrency: 2 }).done;
    const { size } = await stat(served("m.twire"));
    expect(nginx.sentBytes).toBeGreaterThan(size - MiB);
    expect(parts().length).toBeGreaterThan(6);
  }, 30_000);

  test("that is replaced on the way: SOURCE_CHANGED, and no file", async () => {
    const url = await serve(SLOWLY);
    await streamModel(model(1), served("next.twire"), { chunkBytes: MiB });
    // nginx makes its tags of length and seconds.
    const later = Date.now() / 1000 + 10;
    utimesSync(served("next.twire"), later, later);
    let replaced = false;
    const { done } = receiveModel(url, {
      to: served("m.safetensors"),
      windowBytes: 4 * MiB,
      concurrency: 1,
      onProgress: ({ sourceBytes }) => {
        if (replaced || sourceBytes < 4 * MiB) return;
        replaced = true;
        renameSync(served("next.twire"), served("m.twire"));
      },
    });
    await expect(done).rejects.toMatchObject({ code: "SOURCE_CHANGED", retryable: true });
    await expect(stat(served("m.safetensors"))).rejects.toThrow();
    await receiveModel(url, { to: served("m.safetensors") }).done;
  }, 30_000);

  test("goes on when nginx was away, and fetches nothing twice but what was under way", async () => {
    const url = await serve(SLOWLY);
    let restarted: Promise<void> | undefined;
    let before = 0;
    const summary = await receiveModel(url, {
      to: served("m.safetensors"),
      windowBytes: 4 * MiB,
      retry: { initialDelayMs: 50 },
      onProgress: ({ sourceBytes }) => {
        if (sourceBytes > 8 * MiB)
          restarted ??= nginx.kill().then(() => {
            before = nginx.sentBytes;
            return nginx.start();
          });
      },
    }).done;
    await restarted;
    expect(summary.confirmed).toBe(true);
    expect(before).toBeGreaterThan(4 * MiB);
    const { size } = await stat(served("m.twire"));
    expect(nginx.sentBytes).toBeLessThan(size + 8 * MiB);
  }, 60_000);

  test("refuses a receiver whose window its chunks do not fit in, before any of them is fetched", async () => {
    const url = await serve();
    const { done } = receiveModel(url, { to: served("m.safetensors"), windowBytes: MiB });
    await expect(done).rejects.toMatchObject({
      code: "LIMIT_EXCEEDED",
      message: expect.stringMatching(/chunks of 1048576 bytes.*at least 2097152/),
    });
    expect(nginx.sentBytes).toBeLessThan(TAIL_BYTES + 16 * KiB);
  }, 30_000);

  test("is a source like any other: encoded anew, decoded, compared by version", async () => {
    const url = await serve();
    await transferModel(remoteArtifact(url, { concurrency: 2 }), served("small.twire"), {
      codec: "normfloat4",
    });
    const small = artifactSource(served("small.twire"));
    const manifest = await small.open();
    expect(manifest.tensors.map(({ codec }) => codec.name)).toContain("normfloat4");
    await small.close();
  }, 30_000);

  test("without an index is read as it comes", async () => {
    await serve();
    // What a pipe has written: nothing follows END.
    const written = createWriteStream(served("piped.twire"));
    const closed = once(written, "close");
    await streamModel(first, { writable: written }, { chunkBytes: MiB });
    written.end();
    await closed;
    const url = nginx.urlOf("piped.twire");
    const summary = await receiveModel(url, { to: served("p.safetensors") }).done;
    expect(summary.sourceBytes).toBe(LAYERS * (ELEMENTS + 16) * 4);
    expect(nginx.requests.at(-1)).toMatch(/^200 GET/);
    const { done } = receiveModel(url, { to: served("q.safetensors"), tensors: ["layers.1.*"] });
    await expect(done).rejects.toMatchObject({ code: "SOURCE_INVALID" });
  }, 30_000);

  test.runIf(built)(
    "is gone on from after kill -9 of the receiver, and what it holds is not fetched again",
    async () => {
      const url = await serve();
      const to = served("m.safetensors");
      const command = ["receive", url, "--out", to, "--window", "4MiB", "--json"];
      const slow = new CliProcess([...command, "--max-bytes-per-second", "8MiB"]);
      closers.push(() => slow.child.kill("SIGKILL"));
      while (nginx.sentBytes < 14 * MiB) await new Promise((resolve) => setTimeout(resolve, 20));
      slow.child.kill("SIGKILL");
      await slow.ended;
      expect(existsSync(to)).toBe(false);
      const before = nginx.sentBytes;
      const { code, stdout } = await new CliProcess(command).ended;
      expect(code).toBe(0);
      const { resumedBytes } = JSON.parse(stdout.trim().split("\n").at(-1)!);
      expect(resumedBytes).toBeGreaterThanOrEqual(4 * MiB);
      const { size } = await stat(served("m.twire"));
      // What it held is what was not fetched: but for the index, the head, and what joins near ranges.
      expect(nginx.sentBytes - before).toBeLessThan(size - resumedBytes + TAIL_BYTES + 64 * KiB);
      // Two windows, and what was fetched ahead of them.
      expect(nginx.sentBytes).toBeLessThan(size + 2 * 4 * MiB + 2 * MiB + 2 * TAIL_BYTES);
    },
    60_000,
  );

  test.runIf(built)(
    "is fetched by the command, some of it, so many parts at once",
    async () => {
      const url = await serve();
      const to = served("some.safetensors");
      const patterns = ["--tensors", "layers.1.*", "--tensors", "*.bias"];
      const ended = await new CliProcess(["receive", url, "--out", to, ...patterns, "--concurrency", "8"])
        .ended;
      expect(ended).toMatchObject({ code: 0 });
      const source = safetensorsSource(to);
      const { tensors } = await source.open();
      await source.close();
      expect(tensors).toHaveLength(LAYERS + 1);
    },
    30_000,
  );
});
